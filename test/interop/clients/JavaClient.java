import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.io.ByteArrayInputStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Calls with Java's HttpClient at its defaults and prints one line of JSON per answer.
 *
 * <p>usage: JavaClient URL [PROXY_HOST PROXY_PORT [AUTHORITY]]
 */
public final class JavaClient {
  public static void main(String[] args) throws Exception {
    HttpClient.Builder builder = HttpClient.newBuilder();
    if (args.length > 1) {
      builder.proxy(ProxySelector.of(new InetSocketAddress(args[1], Integer.parseInt(args[2]))));
    }
    if (args.length > 3) {
      builder.sslContext(trusting(args[3]));
    }
    HttpClient client = builder.build();
    call(client, args[0], "POST", "/echo", HttpRequest.BodyPublishers.ofString("a=1"));
    call(client, args[0], "GET", "/one", HttpRequest.BodyPublishers.noBody());
    call(client, args[0], "HEAD", "/two", HttpRequest.BodyPublishers.noBody());
    // Of unknown length, so it is sent in chunks.
    call(client, args[0], "POST", "/echo", HttpRequest.BodyPublishers.ofInputStream(
        () -> new ByteArrayInputStream("in two chunks".getBytes())));
    call(client, args[0], "DELETE", "/three?q=1", HttpRequest.BodyPublishers.noBody());
    call(client, args[0], "GET", "/four", HttpRequest.BodyPublishers.noBody());
  }

  private static void call(
      HttpClient client, String url, String method, String target, HttpRequest.BodyPublisher body)
      throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create(url + target)).method(method, body).build();
    HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
    String echoed = answer.headers().firstValue("X-Body").map(JavaClient::quoted).orElse("null");
    System.out.println(
        "{\"call\":" + quoted(method + " " + target)
            + ",\"status\":" + answer.statusCode()
            + ",\"version\":" + quoted(answer.version().toString())
            + ",\"body\":" + quoted(answer.body())
            + ",\"echoed\":" + echoed + "}");
  }

  private static String quoted(String text) {
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
  }

  private static SSLContext trusting(String certificate) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream file = new FileInputStream(certificate)) {
      store.setCertificateEntry("origin", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    managers.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, managers.getTrustManagers(), null);
    return context;
  }
}
