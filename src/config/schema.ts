/**
 * The convict schema of sidecar.json: what can be written, what it means, and its defaults. The option table of
 * docs/configuration.md is generated from it.
 *
 * @module
 */
import type convict from "convict";
import { duration, listOf, optionalDuration, size } from "../plugin/schema.ts";
import { isHost, looksLikeUrl, parseHostPort, parseOrigin, parseRouteHost } from "./address.ts";
import { parseToken } from "./admin-token.ts";
import type { ForwarderName, OtlpProtocol, SidecarConfig, TelemetryConfig } from "./sidecar-config.ts";

/** `tls` of an upstream, as written. */
export interface TlsJson {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  readonly serverName: string | null;
}

/** `tls` of a listener, as written. */
export interface ListenerTlsJson {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | null;
  readonly requireClientCertificate: boolean;
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
}

/** One entry of `backends`, as written but for durations, which are milliseconds. */
export interface BackendJson {
  readonly address: string;
  readonly port: number | null;
  readonly tls: boolean | TlsJson;
  readonly keepaliveTime: number | null;
  readonly tcpKeepalive: {
    readonly enable: boolean | null;
    readonly time: number | null;
    readonly interval: number | null;
    readonly probes: number | null;
  };
}

interface TimeoutsJson {
  readonly connectTimeout: number;
  readonly responseTimeout: number;
  readonly tunnelIdleTimeout: number;
  readonly dnsRefresh: number;
}

interface ListenerJson {
  readonly tls: ListenerTlsJson | null;
  readonly http2: boolean;
}

/** `inbound`, as written but for durations, which are milliseconds. */
export interface InboundJson extends TimeoutsJson, ListenerJson {
  readonly listen: string;
  readonly upstream: string;
  readonly upstreamTls: TlsJson | null;
  readonly loadBalancer: { readonly name: string; readonly idleTimeout: number } | null;
}

/** One entry of `outbound.routes`, as written. */
export interface RouteJson {
  readonly host: string;
  readonly upstream: string;
  readonly tls: TlsJson | null;
}

/** `outbound`, as written but for durations, which are milliseconds. */
export interface OutboundJson extends TimeoutsJson, ListenerJson {
  readonly listen: string;
  readonly routes: readonly RouteJson[];
  readonly unmatched: "pass" | "deny";
}

/** One entry of `plugins`, as written but for durations, which are milliseconds. */
export interface PluginJson {
  readonly use: string;
  readonly config: Record<string, unknown>;
  readonly directions: readonly ("inbound" | "outbound")[];
  readonly onError: "continue" | "fail";
  readonly requestTimeout: number;
}

/** sidecar.json as convict gives it back: valid, defaults filled in, durations in milliseconds, sizes in bytes. */
export interface SidecarJson {
  readonly service: string;
  readonly forwarder: ForwarderName;
  readonly inbound: InboundJson | null;
  readonly outbound: OutboundJson | null;
  readonly backends: Readonly<Record<string, BackendJson>>;
  readonly admin: {
    readonly listen: string;
    readonly probes: string | null;
    readonly token: string | null;
    readonly tokenFile: string | null;
  };
  readonly plugins: readonly PluginJson[];
  readonly telemetry: {
    readonly traces: TelemetryConfig["traces"];
    readonly metrics: { readonly prometheus: boolean; readonly otlp: boolean; readonly otlpInterval: number };
    readonly otlp: { readonly endpoint: string | null; readonly protocol: OtlpProtocol };
  };
  readonly log: SidecarConfig["log"];
  readonly limits: {
    readonly head: number;
    readonly fields: number;
    readonly target: number;
    readonly replay: number;
    readonly streams: number;
  };
  readonly drain: { readonly deadline: number; readonly idleGrace: number };
  readonly reload: SidecarConfig["reload"];
  readonly learning: { readonly stateFile: string | null };
  readonly forwarding: Omit<SidecarConfig["forwarding"], "trusted"> & { readonly trusted: readonly string[] };
}

/** A format that accepts the text which a parser accepts. */
function parsedBy(parse: (text: string) => unknown): (value: unknown) => void {
  return (value) => {
    parse(typeof value === "string" ? value : "");
  };
}

/** A format for what a test accepts. */
function passing(test: (value: unknown) => boolean, otherwise: string): (value: unknown) => void {
  return (value) => {
    if (!test(value)) throw new TypeError(otherwise);
  };
}

const SERVICE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

function isCollectorUrl(value: unknown): boolean {
  const url = typeof value === "string" ? URL.parse(value) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) return false;
  // Paths are added to it, so it ends before a query; and what is secret in either would be shown with the values.
  return [url.username, url.password, url.search, url.hash].every((part) => part === "");
}

const upstream = passing((value) => {
  if (typeof value !== "string" || value === "") return false;
  // A name is looked up in `backends` once the whole file is read.
  if (looksLikeUrl(value)) parseOrigin(value);
  return true;
}, 'must be an origin, "http://127.0.0.1:8080", or the name of an entry in backends');

const tlsItems = {
  ca: {
    default: null,
    format: String,
    nullable: true,
    doc: "PEM file with the authorities to trust instead of the system's. Relative to this file.",
  },
  cert: { default: null, format: String, nullable: true, doc: "PEM file with our certificate chain. Needs `key`." },
  key: { default: null, format: String, nullable: true, doc: "PEM file with the private key of `cert`." },
  serverName: {
    default: null,
    format: String,
    nullable: true,
    doc: "Name to ask for (SNI) and to verify in the certificate. Left out: the upstream's host.",
  },
};

function tls(doc: string): convict.SchemaObj<TlsJson | null> {
  return { default: null, format: "holdfast-object", items: tlsItems, doc };
}

const KERNEL_SECONDS = { min: "1s", max: "32767s" };

const backendItems: convict.Schema<BackendJson> = {
  address: {
    default: null,
    format: passing(
      (value) => typeof value === "string" && isHost(value),
      "must be a host name or an IP address without a port",
    ),
    type: "text",
    doc: "Host name or IP address.",
  },
  port: {
    default: null,
    nullable: true,
    format: passing(
      (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535,
      "must be a port number from 1 to 65535",
    ),
    type: "port",
    doc: "Left out: 443 with `tls`, else 80.",
  },
  tls: {
    default: false,
    format: "holdfast-object",
    switchable: true,
    items: tlsItems,
    type: "true, false or object",
    doc: "Whether to speak TLS; an object also sets how. Certificates are always verified.",
  },
  keepaliveTime: optionalDuration(
    "How long an idle connection to this backend is kept. Left out: what the plugins say. Outranks them.",
  ),
  tcpKeepalive: {
    enable: {
      default: null,
      nullable: true,
      format: Boolean,
      doc: "Whether TCP keepalive probes are sent. Left out: what the plugins say; so too below.",
    },
    time: optionalDuration("Idle time before the first probe, in whole seconds.", KERNEL_SECONDS),
    interval: optionalDuration("Time between probes, in whole seconds.", KERNEL_SECONDS),
    probes: {
      default: null,
      nullable: true,
      format: passing(
        (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 127,
        "must be a whole number from 1 to 127",
      ),
      type: "whole number",
      doc: "Unanswered probes after which the connection is given up.",
    },
  },
};

/** Leaves that both directions have, with the environment's names for one of them. */
function timeouts(prefix: string): convict.Schema<TimeoutsJson> {
  return {
    connectTimeout: {
      ...duration("5s", "Time for DNS, TCP and TLS together when connecting upstream; then 504.", { min: "1ms" }),
      env: `${prefix}_CONNECT_TIMEOUT`,
    },
    responseTimeout: {
      ...duration(
        "5m",
        "Time from the end of a request to the head of its response, and between two reads of its body; then 504.",
        { min: "1ms" },
      ),
      env: `${prefix}_RESPONSE_TIMEOUT`,
    },
    tunnelIdleTimeout: {
      ...duration("1h", "How long a tunnel or an upgraded connection may be silent.", { min: "1ms" }),
      env: `${prefix}_TUNNEL_IDLE_TIMEOUT`,
    },
    dnsRefresh: {
      ...duration(
        "30s",
        'How often the name of an upstream in use is looked up again. Connections to an address that the name no longer has finish what they carry and close. "off" keeps them; choose it for names whose answers rotate through many addresses.',
        { min: "100ms" },
      ),
      env: `${prefix}_DNS_REFRESH`,
    },
  };
}

/** Leaves of a listener's own side, with the environment's names for one direction. */
function listener(prefix: string): convict.Schema<ListenerJson> {
  return {
    tls: {
      default: null,
      format: "holdfast-object",
      items: {
        cert: {
          default: null,
          format: String,
          env: `${prefix}_TLS_CERT`,
          doc: "PEM file with the certificate chain, the server's own first. Relative to this file. Read again when it changes.",
        },
        key: {
          default: null,
          format: String,
          env: `${prefix}_TLS_KEY`,
          doc: "PEM file with the private key of `cert`. Read again when it changes.",
        },
        clientCa: {
          default: null,
          nullable: true,
          format: String,
          env: `${prefix}_TLS_CLIENT_CA`,
          doc: "PEM file with the authorities whose client certificates are accepted. Left out: none is asked for. Read again when it changes.",
        },
        requireClientCertificate: {
          default: true,
          format: Boolean,
          env: `${prefix}_TLS_REQUIRE_CLIENT_CERTIFICATE`,
          doc: "With `clientCa`: whether a peer without a certificate is refused. One with a certificate that is not valid always is.",
        },
        minVersion: {
          default: "TLSv1.2",
          format: ["TLSv1.2", "TLSv1.3"],
          env: `${prefix}_TLS_MIN_VERSION`,
          doc: "The oldest version that is spoken.",
        },
      },
      doc: "TLS on the listener, which ends here. Left out: the listener is plain.",
    },
    http2: flag(
      true,
      `${prefix}_HTTP2`,
      "Whether HTTP/2 is taken: by ALPN under TLS, by prior knowledge without. Upstreams are spoken to in HTTP/1.1.",
    ),
  };
}

function listen(address: string | null, env: string, doc: string): convict.SchemaObj<string> {
  return { default: address, format: parsedBy(parseHostPort), type: "host:port", env, doc };
}

const inboundItems: convict.Schema<InboundJson> = {
  listen: listen(
    "0.0.0.0:15006",
    "HOLDFAST_INBOUND_LISTEN",
    "Where callers of the service connect. Port 0 lets the kernel choose.",
  ),
  upstream: {
    default: null,
    format: upstream,
    type: "origin or backend",
    env: "HOLDFAST_INBOUND_UPSTREAM",
    doc: 'The service: an origin, "http://127.0.0.1:8080", or a name in `backends`.',
  },
  upstreamTls: tls("TLS towards an `https://` upstream. A backend has its own `tls` instead."),
  ...listener("HOLDFAST_INBOUND"),
  loadBalancer: {
    default: null,
    format: "holdfast-object",
    items: {
      name: {
        default: "load balancer",
        format: String,
        env: "HOLDFAST_INBOUND_LOAD_BALANCER_NAME",
        doc: "Name for messages.",
      },
      idleTimeout: {
        default: null,
        format: "holdfast-duration",
        env: "HOLDFAST_INBOUND_LOAD_BALANCER_IDLE_TIMEOUT",
        doc: "How long it keeps idle connections to us. Ours must be kept longer.",
      },
    },
    doc: "What stands in front of the inbound side, for the timeout rules.",
  },
  ...timeouts("HOLDFAST_INBOUND"),
};

const outboundItems: convict.Schema<OutboundJson> = {
  listen: listen(
    "127.0.0.1:15001",
    "HOLDFAST_OUTBOUND_LISTEN",
    "Where the service sends its requests. Port 0 lets the kernel choose.",
  ),
  routes: listOf<RouteJson>(
    {
      host: {
        default: null,
        format: parsedBy(parseRouteHost),
        type: "host",
        doc: 'Host that requests name: "inventory.internal", with a port "inventory.internal:8080", or "*.example.com" for every name under it.',
      },
      upstream: {
        default: null,
        format: upstream,
        type: "origin or backend",
        doc: 'Where they go: an origin, "http://127.0.0.1:8081", or a name in `backends`.',
      },
      tls: tls("TLS towards an `https://` upstream. A backend has its own `tls` instead."),
    },
    "Where requests go by the host they name. The first that matches wins.",
  ),
  unmatched: {
    default: "pass",
    format: ["pass", "deny"],
    env: "HOLDFAST_OUTBOUND_UNMATCHED",
    doc: "Requests that no route matches: `pass` forwards to the host they name, unless that is an address of this link alone, where clouds hand out credentials; `deny` answers 403.",
  },
  ...listener("HOLDFAST_OUTBOUND"),
  ...timeouts("HOLDFAST_OUTBOUND"),
};

function flag(value: boolean, env: string, doc: string): convict.SchemaObj<boolean> {
  return { default: value, format: Boolean, env, doc };
}

/** The schema of sidecar.json. */
export const sidecarSchema: convict.Schema<SidecarJson> = {
  service: {
    default: null,
    format: passing(
      (value) => typeof value === "string" && SERVICE.test(value),
      "must be a name of letters, digits, dots, hyphens and underscores",
    ),
    type: "text",
    env: "HOLDFAST_SERVICE",
    doc: "Name of the service beside the sidecar, for traces, metrics and logs.",
  },
  forwarder: {
    default: "wire",
    format: ["wire", "http-proxy-3"],
    env: "HOLDFAST_FORWARDER",
    doc: "What carries exchanges. `wire` reads and writes HTTP/1.x on sockets; what leaves plain HTTP/1.x (upgrades, `CONNECT`, HTTP/2 from downstream) it hands to `http-proxy-3`. `http-proxy-3` carries everything through node:http and the package of that name, at several times the CPU time.",
  },
  inbound: {
    default: null,
    format: "holdfast-object",
    items: inboundItems,
    doc: "Traffic to the service. Left out: none is taken.",
  },
  outbound: {
    default: null,
    format: "holdfast-object",
    items: outboundItems,
    doc: "Traffic from the service. Left out: none is taken.",
  },
  backends: {
    default: {},
    format: "holdfast-map",
    items: backendItems,
    doc: "Upstreams by name. `inbound.upstream` and routes refer to them, and the admin API changes their keep-alive settings.",
  },
  admin: {
    listen: listen(
      "127.0.0.1:15000",
      "HOLDFAST_ADMIN_LISTEN",
      "Where the admin API listens. Whoever reaches it can drain the sidecar: off loopback it needs a token.",
    ),
    probes: {
      default: null,
      nullable: true,
      format: parsedBy(parseHostPort),
      type: "host:port",
      env: "HOLDFAST_ADMIN_PROBES",
      doc: 'Where `/healthz`, `/readyz` and `/metrics`, and nothing else, are served to everybody: for a kubelet and Prometheus, "0.0.0.0:15020". Left out: nowhere.',
    },
    token: {
      default: null,
      nullable: true,
      sensitive: true,
      format: parsedBy(parseToken),
      type: "text",
      env: "HOLDFAST_ADMIN_TOKEN",
      doc: "What callers of the admin API must send, `Authorization: Bearer …`, but for `/healthz` and `/readyz`; 16 characters or more. Never shown. Left out: they must call from this machine.",
    },
    tokenFile: {
      default: null,
      nullable: true,
      format: String,
      env: "HOLDFAST_ADMIN_TOKEN_FILE",
      doc: "File with the token, instead of `token`, such as a mounted secret. Relative to this file. White space around it does not count. Read at start.",
    },
  },
  plugins: listOf<PluginJson>(
    {
      use: {
        default: null,
        format: passing((value) => typeof value === "string" && value.trim() !== "", "must be a plugin's name or path"),
        type: "text",
        doc: "A built-in's name, a path relative to this file (`./own.js`), or an npm package that is installed beside it.",
      },
      config: { default: {}, format: Object, doc: "The plugin's own configuration: see its page." },
      directions: {
        default: ["inbound", "outbound"],
        format: "holdfast-words",
        words: ["inbound", "outbound"],
        type: 'list of "inbound", "outbound"',
        doc: "Where the plugin runs.",
      },
      onError: {
        default: "continue",
        format: ["continue", "fail"],
        doc: "When a hook of the plugin throws: `continue` without it for that exchange, or `fail` the exchange with 500.",
      },
      requestTimeout: duration("5s", "Time that an asynchronous `request` hook of the plugin may take.", {
        min: "1ms",
      }),
    },
    "Plugins, in the order in which they see requests.",
  ),
  telemetry: {
    traces: {
      exporters: {
        default: ["otlp"],
        format: "holdfast-words",
        words: ["otlp", "console", "none"],
        type: 'list of "otlp", "console", "none"',
        env: "HOLDFAST_TELEMETRY_TRACES_EXPORTERS",
        doc: "Where spans go. `console` prints one line per exchange.",
      },
      sampler: {
        default: "parentbased_traceidratio",
        format: [
          "parentbased_traceidratio",
          "parentbased_always_on",
          "parentbased_always_off",
          "traceidratio",
          "always_on",
          "always_off",
        ],
        env: "HOLDFAST_TELEMETRY_TRACES_SAMPLER",
        doc: "Which exchanges are traced; names of the OpenTelemetry specification.",
      },
      ratio: {
        default: 1,
        format: passing(
          (value) => typeof value === "number" && value >= 0 && value <= 1,
          "must be a number from 0 to 1",
        ),
        env: "HOLDFAST_TELEMETRY_TRACES_RATIO",
        doc: "Share of traces that the `…traceidratio` samplers keep.",
      },
    },
    metrics: {
      prometheus: flag(true, "HOLDFAST_TELEMETRY_METRICS_PROMETHEUS", "Whether the admin API has `/metrics`."),
      otlp: flag(false, "HOLDFAST_TELEMETRY_METRICS_OTLP", "Whether metrics are sent over OTLP."),
      otlpInterval: {
        ...duration("60s", "How often metrics are sent over OTLP.", { min: "1s", max: "1h" }),
        env: "HOLDFAST_TELEMETRY_METRICS_OTLP_INTERVAL",
      },
    },
    otlp: {
      endpoint: {
        default: null,
        nullable: true,
        format: passing(
          isCollectorUrl,
          'must be the base URL of a collector, without credentials and query: "http://localhost:4318"',
        ),
        type: "URL",
        env: "HOLDFAST_TELEMETRY_OTLP_ENDPOINT",
        doc: "Base URL of the collector. The standard `OTEL_EXPORTER_OTLP_*` variables outrank it. Left out: http://localhost:4318.",
      },
      protocol: {
        default: "http/protobuf",
        format: ["http/protobuf", "http/json"],
        env: "HOLDFAST_TELEMETRY_OTLP_PROTOCOL",
        doc: "How spans and metrics are encoded.",
      },
    },
  },
  log: {
    level: {
      default: "info",
      format: ["trace", "debug", "info", "warn", "error", "silent"],
      env: "HOLDFAST_LOG_LEVEL",
      doc: "Least severe lines that are written. The admin API can change it.",
    },
    access: flag(true, "HOLDFAST_LOG_ACCESS", "Whether each exchange gets a line."),
  },
  limits: {
    head: {
      ...size("64KiB", "Request line and fields together; more gets 431.", { min: "1KiB", max: "16MiB" }),
      env: "HOLDFAST_LIMITS_HEAD",
    },
    fields: {
      default: 200,
      format: passing(
        (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 10_000,
        "must be a whole number from 1 to 10000",
      ),
      type: "whole number",
      env: "HOLDFAST_LIMITS_FIELDS",
      doc: "Field lines of a request; more get 431.",
    },
    target: {
      ...size("16KiB", "Request target; a longer one gets 414.", { min: "256B", max: "16MiB" }),
      env: "HOLDFAST_LIMITS_TARGET",
    },
    replay: {
      ...size(
        "64KiB",
        "Request body kept in memory for a retry; with a longer one there is none. A chunked one for a service that answered as HTTP/1.0 is kept until it is whole, and sent with its length; a longer one gets 411.",
        { max: "16MiB" },
      ),
      env: "HOLDFAST_LIMITS_REPLAY",
    },
    streams: {
      default: 100,
      format: passing(
        (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 100_000,
        "must be a whole number from 1 to 100000",
      ),
      type: "whole number",
      env: "HOLDFAST_LIMITS_STREAMS",
      doc: "Requests at one time on one HTTP/2 connection. Peers are told, and go by it; what a peer sends above it before it can know is refused, and can be repeated.",
    },
  },
  drain: {
    deadline: {
      ...duration("30s", "Everything is over by then, whatever is still in flight.", { max: "24h" }),
      env: "HOLDFAST_DRAIN_DEADLINE",
    },
    idleGrace: {
      ...duration(
        "2s",
        "How long idle downstream connections stay open, so that a request already on its way still finds us.",
        { max: "24h" },
      ),
      env: "HOLDFAST_DRAIN_IDLE_GRACE",
    },
  },
  reload: {
    watch: flag(
      true,
      "HOLDFAST_RELOAD_WATCH",
      "Whether a change of this file is put into force at once, as by SIGHUP and `POST /reload`.",
    ),
  },
  learning: {
    stateFile: {
      default: null,
      nullable: true,
      format: String,
      env: "HOLDFAST_LEARNING_STATE_FILE",
      doc: "File in which what was learned of upstreams (when they close connections) is kept, so that a restart goes on from it. Relative to this file. Written every minute and at the end; its folder must be writable. Left out: it is forgotten. It holds names and addresses of upstreams and times, nothing of requests.",
    },
  },
  forwarding: {
    trusted: {
      default: [],
      format: "holdfast-ranges",
      env: "HOLDFAST_FORWARDING_TRUSTED",
      doc: "Inbound peers whose `X-Forwarded-*`, `X-Real-IP` and `Forwarded` are taken over and added to: load balancers and proxies in front. From every other address these fields are removed, and ours say who asked. nginx: `set_real_ip_from`.",
    },
    xForwarded: flag(
      true,
      "HOLDFAST_FORWARDING_X_FORWARDED",
      "Whether `X-Forwarded-For`, `-Host` and `-Proto` are written.",
    ),
    forwarded: flag(false, "HOLDFAST_FORWARDING_FORWARDED", "Whether `Forwarded` (RFC 7239) is written."),
    via: flag(true, "HOLDFAST_FORWARDING_VIA", "Whether `Via` is written."),
  },
};
