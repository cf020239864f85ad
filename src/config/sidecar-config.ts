/**
 * The configuration in the form the code uses: every duration in milliseconds, every size in bytes, every address
 * parsed. `src/config/schema.ts` says how it is written, `src/config/load.ts` makes it.
 *
 * @module
 */
import type { Backend, Direction, Origin } from "../plugin/api.ts";
import type { AddressRange } from "./address.ts";

/** An address to listen on or connect to. */
export interface HostPort {
  /** IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Which forwarder carries exchanges. */
export type ForwarderName = "wire" | "http-proxy-3";

/** TLS towards an upstream. */
export interface UpstreamTls {
  /** Path of a PEM file with the authorities to trust instead of the system's. */
  readonly ca: string | undefined;
  /** Path of a PEM file with our client certificate chain. */
  readonly cert: string | undefined;
  /** Path of a PEM file with its private key. */
  readonly key: string | undefined;
  /** Name to ask for (SNI) and to verify. Default: the origin's host. */
  readonly serverName: string | undefined;
}

/** TLS on a listener: Holdfast ends it. File names are absolute. */
export interface ListenerTls {
  /** Path of a PEM file with the certificate chain. */
  readonly cert: string;
  /** Path of a PEM file with its private key. */
  readonly key: string;
  /** Path of a PEM file with the authorities whose client certificates are accepted; `undefined`: none is asked for. */
  readonly clientCa: string | undefined;
  /** Whether a peer without a client certificate is refused; takes effect with {@link clientCa}. Default `true`. */
  readonly requireClientCertificate: boolean;
  /** Default `"TLSv1.2"`. */
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
}

/** Something requests can be sent to: a backend's name, or an origin in the configuration. */
export interface Upstream {
  readonly origin: Origin;
  /** Name in `backends`, when it was referred to by name. */
  readonly backend: string | undefined;
  /** Set exactly when the origin's scheme is `https`. File names are absolute. */
  readonly tls: UpstreamTls | undefined;
}

/** One entry of `backends`; {@link Backend} holds the part that can change while running. */
export interface BackendConfig extends Upstream {
  readonly settings: Backend;
}

/** One entry of `outbound.routes`. The first that matches wins. */
export interface RouteConfig {
  /** Host, in lower case, without port; `*.example.com` stands for every name under it. */
  readonly host: string;
  /** Only this port of the host, when set. */
  readonly port: number | undefined;
  readonly upstream: Upstream;
}

/** What stands in front of our inbound side, for the rules of `check`. */
export interface LoadBalancer {
  readonly name: string;
  /** How long it keeps its connections to us idle. */
  readonly idleTimeoutMs: number;
}

interface DirectionConfig {
  readonly listen: HostPort;
  /** `undefined`: the listener is plain. */
  readonly tls: ListenerTls | undefined;
  /** Whether HTTP/2 is taken: by ALPN under TLS, by prior knowledge without. Default `true`. */
  readonly http2: boolean;
  /** Time for DNS, TCP and TLS together. Default 5 s. */
  readonly connectTimeoutMs: number;
  /** Time from the end of the request to the response head, and between two reads of its body. Default 5 min. */
  readonly responseTimeoutMs: number;
  /** How long a tunnel or upgraded connection may be silent. Default 1 h. */
  readonly tunnelIdleTimeoutMs: number;
  /** How often the name of an upstream in use is looked up again. `Infinity`: never. Default 30 s. */
  readonly dnsRefreshMs: number;
}

export interface InboundConfig extends DirectionConfig {
  readonly upstream: Upstream;
  readonly loadBalancer: LoadBalancer | undefined;
}

export interface OutboundConfig extends DirectionConfig {
  readonly routes: readonly RouteConfig[];
  /** `pass`: forward to what the request names. `deny`: 403. */
  readonly unmatched: "pass" | "deny";
}

/** One entry of `plugins`. */
export interface PluginEntry {
  /** A built-in's name, a path relative to sidecar.json, or an npm package resolved from its folder. */
  readonly use: string;
  /** Not yet validated: the plugin's own schema does that. */
  readonly config: Record<string, unknown>;
  readonly directions: readonly Direction[];
  readonly onError: "continue" | "fail";
  /** Time limit of an asynchronous `request` hook. Default 5 s. */
  readonly requestTimeoutMs: number;
}

export type TraceExporter = "otlp" | "console" | "none";
/** Samplers by their names in `OTEL_TRACES_SAMPLER`. */
export type SamplerName =
  | "parentbased_traceidratio"
  | "parentbased_always_on"
  | "parentbased_always_off"
  | "traceidratio"
  | "always_on"
  | "always_off";
export type OtlpProtocol = "http/protobuf" | "http/json";

export interface TelemetryConfig {
  readonly traces: {
    readonly exporters: readonly TraceExporter[];
    readonly sampler: SamplerName;
    readonly ratio: number;
  };
  readonly metrics: {
    readonly prometheus: boolean;
    readonly otlp: boolean;
    readonly otlpIntervalMs: number;
  };
  readonly otlp: {
    /** Base URL, outranked by the standard OTEL_* variables; `undefined`: http://localhost:4318. */
    readonly endpoint: string | undefined;
    readonly protocol: OtlpProtocol;
  };
}

export interface Limits {
  /** Request line and fields together. Default 64 KiB; then 431. */
  readonly headBytes: number;
  /** Field lines. Default 200; then 431. */
  readonly fields: number;
  /** Request target. Default 16 KiB; then 414. */
  readonly targetBytes: number;
  /** Request body kept for a retry. Default 64 KiB. */
  readonly replayBytes: number;
  /** Exchanges at one time on one HTTP/2 connection. Default 100. */
  readonly streams: number;
}

export interface DrainConfig {
  /** Everything is over by then. Default 30 s. */
  readonly deadlineMs: number;
  /** How long idle downstream connections stay open, so that a request already on its way still finds us. Default 2 s. */
  readonly idleGraceMs: number;
}

export interface SidecarConfig {
  readonly service: string;
  readonly forwarder: ForwarderName;
  readonly inbound: InboundConfig | undefined;
  readonly outbound: OutboundConfig | undefined;
  readonly backends: ReadonlyMap<string, BackendConfig>;
  readonly admin: {
    readonly listen: HostPort;
    /** Where routes that tell how the process is are served to everybody; `undefined`: nowhere. */
    readonly probes: HostPort | undefined;
    /** What callers must send; `undefined`: they must call from this machine. Never shown. */
    readonly token: string | undefined;
  };
  readonly plugins: readonly PluginEntry[];
  readonly telemetry: TelemetryConfig;
  readonly log: {
    readonly level: "trace" | "debug" | "info" | "warn" | "error" | "silent";
    /** One line per exchange. Default `true`. */
    readonly access: boolean;
  };
  readonly limits: Limits;
  readonly drain: DrainConfig;
  /** `watch`: whether a change of the file is put into force at once. Default `true`. */
  readonly reload: { readonly watch: boolean };
  /** `stateFile`: where what was learned of upstreams is kept, an absolute path; `undefined`: nowhere. */
  readonly learning: { readonly stateFile: string | undefined };
  /** `X-Forwarded-*`, `Forwarded` and `Via` as written to the upstream. */
  readonly forwarding: {
    /** Inbound peers whose word on earlier hops is taken. Default: none. */
    readonly trusted: readonly AddressRange[];
    readonly xForwarded: boolean;
    readonly forwarded: boolean;
    readonly via: boolean;
  };
  /** Folder that relative paths in the file start from. */
  readonly folder: string;
  /** The file it came from. */
  readonly file: string;
}
