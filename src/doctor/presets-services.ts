/**
 * Presets of services: HTTP servers of languages and frameworks, and their HTTP clients.
 *
 * @module
 */
import type { Preset } from "./preset.ts";

const NODE_SERVER = {
  downstream: { idleMs: 5000, announcedMs: 5000 },
  settings: {
    downstreamIdle: "server.keepAliveTimeout = {ms};",
    downstreamMaxRequests: "server.maxRequestsPerSocket = {n};",
    downstreamTcpKeepAlive: "http.createServer({ keepAlive: true, keepAliveInitialDelay: {ms} })",
    upstreamIdle: "new http.Agent({ keepAlive: true, timeout: {ms} })",
    upstreamTcpKeepAlive: "new http.Agent({ keepAlive: true, keepAliveMsecs: {ms} })",
  },
} as const;

/** The presets. */
export const SERVICES: readonly Preset[] = [
  {
    name: "node",
    title: "Node.js http, as server and with its default agent",
    sources: [
      "https://nodejs.org/api/http.html#serverkeepalivetimeout",
      "https://nodejs.org/api/http.html#httpglobalagent",
    ],
    note: "Since Node.js 24 it closes a second later than it announces.",
    ...NODE_SERVER,
    upstream: { idleMs: 5000, readsHint: true, asksForHint: true, hintMarginMs: 1000, tcpKeepAliveMs: 1000 },
    symptom: "ECONNRESET, `socket hang up`",
  },
  {
    name: "express",
    title: "Express on Node.js http",
    sources: ["https://nodejs.org/api/http.html#serverkeepalivetimeout"],
    ...NODE_SERVER,
    upstream: { idleMs: 5000, readsHint: true, asksForHint: true, hintMarginMs: 1000, tcpKeepAliveMs: 1000 },
    symptom: "ECONNRESET, `socket hang up`",
  },
  {
    name: "gunicorn",
    title: "gunicorn with threads or async workers",
    sources: ["https://docs.gunicorn.org/en/stable/settings.html#keepalive"],
    note: "The sync worker keeps no connection: `gunicorn:keepalive=off`.",
    downstream: { idleMs: 2000 },
    settings: { downstreamIdle: "--keep-alive {s}", downstreamKeepAlive: "--worker-class gthread" },
  },
  {
    name: "uvicorn",
    title: "uvicorn",
    sources: ["https://www.uvicorn.org/settings/#timeouts"],
    downstream: { idleMs: 5000 },
    settings: { downstreamIdle: "--timeout-keep-alive {s}" },
  },
  {
    name: "tomcat",
    title: "Apache Tomcat with its server.xml",
    sources: ["https://tomcat.apache.org/tomcat-10.1-doc/config/http.html"],
    note: "keepAliveTimeout is connectionTimeout: 20 s in the server.xml that comes with it, 60 s embedded.",
    downstream: { idleMs: 20_000, announcedMs: 20_000, announcesIfAsked: true, maxRequests: 100 },
    settings: {
      downstreamIdle: 'server.xml <Connector keepAliveTimeout="{ms}">, or server.tomcat.keep-alive-timeout={ms}ms',
      downstreamMaxRequests: 'server.xml <Connector maxKeepAliveRequests="{n}">',
    },
  },
  {
    name: "jetty",
    title: "Eclipse Jetty",
    sources: ["https://jetty.org/docs/jetty/12/operations-guide/modules/standard.html#http"],
    downstream: { idleMs: 30_000 },
    settings: { downstreamIdle: "jetty.http.idleTimeout={ms}" },
  },
  {
    name: "kestrel",
    title: "ASP.NET Core Kestrel",
    sources: [
      "https://learn.microsoft.com/en-us/dotnet/api/microsoft.aspnetcore.server.kestrel.core.kestrelserverlimits.keepalivetimeout",
    ],
    downstream: { idleMs: 130_000 },
    settings: { downstreamIdle: "options.Limits.KeepAliveTimeout = TimeSpan.FromSeconds({s});" },
  },
  {
    name: "go",
    title: "Go net/http, as server without IdleTimeout and with http.DefaultTransport",
    sources: ["https://pkg.go.dev/net/http#Server", "https://pkg.go.dev/net/http#DefaultTransport"],
    note: "IdleTimeout 0 means ReadTimeout; both 0 means no limit.",
    downstream: { idleMs: Number.POSITIVE_INFINITY, tcpKeepAliveMs: 15_000 },
    upstream: { idleMs: 90_000, tcpKeepAliveMs: 30_000 },
    settings: {
      downstreamIdle: "http.Server{IdleTimeout: {s} * time.Second}",
      upstreamIdle: "http.Transport{IdleConnTimeout: {ms} * time.Millisecond}",
      upstreamTcpKeepAlive: "net.Dialer{KeepAlive: {s} * time.Second}",
    },
    symptom: "EOF or `http: server closed idle connection`; GETs are sent again",
  },
  {
    name: "puma",
    title: "Puma 7",
    sources: [
      "https://github.com/puma/puma/pull/3378",
      "https://github.com/puma/puma/blob/main/lib/puma/configuration.rb",
    ],
    note: "Before Puma 7 it was 20 s: `puma:idle=20s`.",
    downstream: { idleMs: 65_000, maxRequests: 999 },
    settings: { downstreamIdle: "persistent_timeout {s}", downstreamMaxRequests: "max_keep_alive {n}" },
  },
  {
    name: "java-client",
    title: "java.net.http.HttpClient of JDK 20 and newer",
    sources: ["https://docs.oracle.com/en/java/javase/21/docs/api/java.net.http/module-summary.html"],
    note: "Before JDK 20 it was 1200 s: `java-client:idle=1200s`.",
    upstream: { idleMs: 30_000 },
    settings: { upstreamIdle: "-Djdk.httpclient.keepalive.timeout={s}" },
    symptom: "java.io.IOException: HTTP/1.1 header parser received no bytes",
  },
  {
    name: "python-requests",
    title: "Python requests with a Session",
    sources: ["https://urllib3.readthedocs.io/en/stable/advanced-usage.html"],
    upstream: { idleMs: Number.POSITIVE_INFINITY },
    settings: { upstreamTcpKeepAlive: "HTTPAdapter with socket_options (TCP_KEEPIDLE, {s})" },
    symptom: "ConnectionError: ('Connection aborted.', RemoteDisconnected(…))",
  },
];
