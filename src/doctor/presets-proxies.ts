/**
 * Presets of proxies and service meshes.
 *
 * @module
 */
import type { Preset } from "./preset.ts";

const ENVOY_SYMPTOM = "503 with response flag UC (upstream connection termination)";
const ENVOY_SOURCE = "https://www.envoyproxy.io/docs/envoy/latest/faq/configuration/timeouts";
const NGINX_SOURCE = "https://nginx.org/en/docs/http/ngx_http_core_module.html#keepalive_timeout";
const NGINX_UPSTREAM_SOURCE = "https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout";
const NGINX_SYMPTOM =
  "502; in the error log `upstream prematurely closed connection` or `recv() failed (104)`; with several servers a GET is served twice";

/** The presets. */
export const PROXIES: readonly Preset[] = [
  {
    name: "nginx",
    title: "nginx, no `keepalive` in its upstream (the default before 1.29.7)",
    sources: [NGINX_SOURCE, NGINX_UPSTREAM_SOURCE],
    downstream: { idleMs: 75_000, maxRequests: 1000, maxAgeMs: 3_600_000 },
    upstream: { keepAlive: false, idleMs: 60_000, maxRequests: 1000, maxAgeMs: 3_600_000 },
    settings: {
      downstreamIdle: "keepalive_timeout {s}s;",
      downstreamMaxRequests: "keepalive_requests {n};",
      downstreamTcpKeepAlive: "listen … so_keepalive={s}s::;",
      upstreamKeepAlive: 'upstream { keepalive 32; } with proxy_http_version 1.1; proxy_set_header Connection "";',
    },
    symptom: NGINX_SYMPTOM,
  },
  {
    name: "nginx-keepalive",
    title: "nginx with `keepalive` in its upstream",
    sources: [NGINX_SOURCE, NGINX_UPSTREAM_SOURCE],
    downstream: { idleMs: 75_000, maxRequests: 1000, maxAgeMs: 3_600_000 },
    upstream: { idleMs: 60_000, maxRequests: 1000, maxAgeMs: 3_600_000 },
    settings: {
      downstreamIdle: "keepalive_timeout {s}s;",
      downstreamMaxRequests: "keepalive_requests {n};",
      downstreamTcpKeepAlive: "listen … so_keepalive={s}s::;",
      upstreamIdle: "upstream { keepalive_timeout {ms}ms; }",
      upstreamMaxRequests: "upstream { keepalive_requests {n}; }",
      upstreamMaxAge: "upstream { keepalive_time {s}s; }",
    },
    symptom: NGINX_SYMPTOM,
  },
  {
    name: "apache",
    title: "Apache httpd 2.4, as origin and with mod_proxy_http",
    sources: [
      "https://httpd.apache.org/docs/2.4/mod/core.html#keepalivetimeout",
      "https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass",
    ],
    downstream: { idleMs: 5000, announcedMs: 5000, announcesIfAsked: true, maxRequests: 101 },
    upstream: { idleMs: Number.POSITIVE_INFINITY },
    settings: {
      downstreamIdle: "KeepAliveTimeout {s}",
      downstreamMaxRequests: "MaxKeepAliveRequests {n}",
      upstreamIdle: "ProxyPass … ttl={s}",
      upstreamTcpKeepAlive: "ProxyPass … keepalive=On (and net.ipv4.tcp_keepalive_time={s})",
    },
    symptom: "502 Proxy Error, `Error reading from remote server`",
  },
  {
    name: "haproxy",
    title: "HAProxy with the timeouts of Debian's haproxy.cfg",
    sources: [
      "https://docs.haproxy.org/2.6/configuration.html#timeout%20http-keep-alive",
      "https://docs.haproxy.org/2.6/configuration.html#4.2-http-reuse",
    ],
    note: "Its idle server connections have no limit of their own, only `pool-purge-delay`, which closes half of those that were too many.",
    downstream: { idleMs: 50_000 },
    upstream: { idleMs: Number.POSITIVE_INFINITY },
    settings: {
      downstreamIdle: "timeout http-keep-alive {ms}ms",
      downstreamTcpKeepAlive: "option clitcpka with clitcpka-idle {s}s",
      upstreamKeepAlive: "option http-keep-alive",
      upstreamIdle: "http-reuse never, or pool-max-conn 0 on the server line (it has no idle limit of its own)",
      upstreamTcpKeepAlive: "option srvtcpka with srvtcpka-idle {s}s",
      upstreamMaxRequests: "server … max-reuse {n}",
    },
    symptom:
      "the caller's connection is closed without a response; for its first request 502 with termination state SH--",
  },
  {
    name: "caddy",
    title: "Caddy 2, as origin and with reverse_proxy",
    sources: [
      "https://caddyserver.com/docs/caddyfile/options#timeouts",
      "https://caddyserver.com/docs/caddyfile/directives/reverse_proxy#the-http-transport",
    ],
    downstream: { idleMs: 300_000, tcpKeepAliveMs: 15_000 },
    upstream: { idleMs: 120_000, tcpKeepAliveMs: 30_000 },
    settings: {
      downstreamIdle: "servers { timeouts { idle {s}s } }",
      upstreamIdle: "reverse_proxy { transport http { keepalive {s}s } }",
      upstreamTcpKeepAlive: "reverse_proxy { transport http { keepalive_interval {s}s } }",
    },
    symptom: "502 for requests that must not be repeated; the others are sent again",
  },
  {
    name: "traefik",
    title: "Traefik 2 and 3",
    sources: [
      "https://doc.traefik.io/traefik/routing/entrypoints/#respondingtimeouts",
      "https://doc.traefik.io/traefik/routing/overview/#transport-configuration",
    ],
    downstream: { idleMs: 180_000, tcpKeepAliveMs: 15_000 },
    upstream: { idleMs: 90_000, tcpKeepAliveMs: 30_000 },
    settings: {
      downstreamIdle: "--entryPoints.NAME.transport.respondingTimeouts.idleTimeout={s}s",
      upstreamIdle: "--serversTransport.forwardingTimeouts.idleConnTimeout={s}s",
    },
    symptom: "502 Bad Gateway for requests that must not be repeated; the others are sent again",
  },
  {
    name: "envoy",
    title: "Envoy",
    sources: [ENVOY_SOURCE],
    downstream: { idleMs: 3_600_000 },
    upstream: { idleMs: 3_600_000 },
    settings: {
      downstreamIdle: "http_connection_manager common_http_protocol_options.idle_timeout: {f}s",
      upstreamIdle: "cluster HttpProtocolOptions common_http_protocol_options.idle_timeout: {f}s",
      upstreamMaxRequests: "cluster HttpProtocolOptions common_http_protocol_options.max_requests_per_connection: {n}",
      upstreamMaxAge: "cluster HttpProtocolOptions common_http_protocol_options.max_connection_duration: {f}s",
      upstreamTcpKeepAlive: "cluster upstream_connection_options.tcp_keepalive.keepalive_time: {s}",
    },
    symptom: ENVOY_SYMPTOM,
  },
  {
    name: "istio",
    title: "Istio sidecar or gateway",
    sources: [
      ENVOY_SOURCE,
      "https://istio.io/latest/docs/reference/config/networking/destination-rule/#ConnectionPoolSettings-HTTPSettings",
    ],
    downstream: { idleMs: 3_600_000 },
    upstream: { idleMs: 3_600_000 },
    settings: {
      downstreamIdle: "EnvoyFilter: http_connection_manager common_http_protocol_options.idle_timeout: {f}s",
      upstreamIdle: "DestinationRule trafficPolicy.connectionPool.http.idleTimeout: {f}s",
      upstreamMaxRequests: "DestinationRule trafficPolicy.connectionPool.http.maxRequestsPerConnection: {n}",
      upstreamMaxAge: "DestinationRule trafficPolicy.connectionPool.tcp.maxConnectionDuration: {s}s",
      upstreamTcpKeepAlive: "DestinationRule trafficPolicy.connectionPool.tcp.tcpKeepalive.time: {s}s",
    },
    symptom: ENVOY_SYMPTOM,
  },
  {
    name: "linkerd",
    title: "Linkerd 2 proxy",
    sources: [
      "https://github.com/linkerd/linkerd2-proxy/blob/main/linkerd/app/src/env.rs",
      "https://github.com/linkerd/linkerd2/blob/main/charts/partials/templates/_proxy.tpl",
    ],
    note: "TCP keepalive as its injector sets it.",
    downstream: { tcpKeepAliveMs: 10_000 },
    upstream: { idleMs: 3000, tcpKeepAliveMs: 10_000 },
    settings: { upstreamIdle: "LINKERD2_PROXY_OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT={ms}ms" },
    symptom: "502 with l5d-proxy-error: connection closed",
  },
];
