import java.io.IOException;
import java.util.logging.LogManager;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.valves.ValveBase;

/** Tomcat, embedded, with the connector attributes of the command line: port, folder, and name=value of each. */
public class TomcatServer {
    public static void main(String[] args) throws Exception {
        LogManager.getLogManager().reset();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(args[1]);
        Connector connector = new Connector();
        connector.setPort(Integer.parseInt(args[0]));
        connector.setProperty("address", "127.0.0.1");
        for (int index = 2; index < args.length; index++) {
            String[] attribute = args[index].split("=", 2);
            connector.setProperty(attribute[0], attribute[1]);
        }
        tomcat.setConnector(connector);
        // Before any host and context: what is measured is the connector.
        tomcat.getEngine().getPipeline().addValve(new ValveBase(true) {
            @Override
            public void invoke(Request request, Response response) throws IOException {
                response.getWriter().write("ok");
            }
        });
        tomcat.start();
        tomcat.getServer().await();
    }
}
