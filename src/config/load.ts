/**
 * sidecar.json and the environment → {@link SidecarConfig}, or every fault at once.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { TcpKeepAlive } from "../plugin/api.ts";
import { looksLikeUrl, parseHostPort, parseOrigin, parseRange, parseRouteHost } from "./address.ts";
import { checkToken, readToken } from "./admin-token.ts";
import { type Document, parseDocument } from "./document.ts";
import { ConfigError, type Fault, keyText, nearest, type Path } from "./faults.ts";
import type { SchemaTree } from "./leaf.ts";
import { type ReadFault, Reading, type ReadValue, readObject, show } from "./read.ts";
import {
  type BackendJson,
  type InboundJson,
  type ListenerTlsJson,
  type OutboundJson,
  type PluginJson,
  type SidecarJson,
  sidecarSchema,
  type TlsJson,
} from "./schema.ts";
import type {
  BackendConfig,
  InboundConfig,
  ListenerTls,
  OutboundConfig,
  PluginEntry,
  SidecarConfig,
  Upstream,
  UpstreamTls,
} from "./sidecar-config.ts";
import { checkListenerFiles, checkTlsFiles } from "./tls-files.ts";

/** Environment variables. One that is empty counts as not set. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One effective value of the configuration. */
export interface EffectiveValue {
  /** `"inbound.listen"`, `"plugins[2].config.downstream"`. */
  readonly key: string;
  /** As configuration writes it: durations and sizes with their unit. */
  readonly value: unknown;
  readonly source: "default" | "file" | "environment";
  /** Name of the variable when the source is the environment. */
  readonly variable: string | undefined;
  /** Whether the value must not be shown. */
  readonly secret: boolean;
}

/** A configuration that is valid but for what its plugins have to say. */
export interface LoadedConfig {
  readonly config: SidecarConfig;
  readonly values: readonly EffectiveValue[];
  /** The file, for the places of faults that are found later. */
  readonly document: Document;
}

/** What reading a configuration found, faults or not. */
export interface ConfigReading {
  /** Set when there is no fault. */
  readonly loaded: LoadedConfig | undefined;
  readonly faults: readonly Fault[];
  /** Set when the file is JSON. */
  readonly document: Document | undefined;
  /** Entries of `plugins` whose `use` and `config` can be looked at, whatever else is wrong, by their place in the list. */
  readonly plugins: ReadonlyMap<number, PluginEntry>;
  /** Folder of the file, absolute. */
  readonly folder: string;
}

/**
 * Loads a configuration.
 *
 * @param file - path of sidecar.json
 * @param env - environment variables that outrank it
 * @throws ConfigError with every fault
 */
export function loadConfig(file: string, env: Environment): LoadedConfig {
  const { loaded, faults } = readConfig(file, env);
  if (loaded === undefined) throw new ConfigError(faults);
  return loaded;
}

/** Loads a configuration as {@link loadConfig} does, but returns its faults, and what is usable in spite of them. */
export function readConfig(file: string, env: Environment): ConfigReading {
  const folder = path.dirname(path.resolve(file));
  const unusable = { loaded: undefined, document: undefined, plugins: new Map(), folder };
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const wrong = `cannot be read: ${error instanceof Error ? error.message : String(error)}`;
    return { ...unusable, faults: [{ place: { file }, key: "", wrong, allowed: "name another file with --config" }] };
  }
  const { document, faults } = parseDocument(file, text);
  if (document === undefined) return { ...unusable, faults };

  const reading = new Reading(env);
  const json = readObject(sidecarSchema as SchemaTree, document.value, [], reading) as Draft<SidecarJson>;
  crossCheck(json, folder, reading);
  const allFaults = [
    ...faults,
    ...reading.faults.map((fault) =>
      placed(fault, document, keyText(fault.atKey ? fault.path.slice(0, -1) : fault.path)),
    ),
  ];
  const plugins = pluginEntries(json.plugins ?? []);
  const values = reading.values.map((value) => effectiveValue(masked(value), value.path));
  return {
    loaded:
      allFaults.length > 0 ? undefined : { config: toConfig(json as SidecarJson, folder, file), values, document },
    faults: allFaults,
    document,
    plugins,
    folder,
  };
}

/** A value that may lack what was not valid. */
type Draft<T> = T extends readonly (infer E)[]
  ? readonly Draft<E>[]
  : T extends object
    ? { readonly [K in keyof T]?: Draft<T[K]> | undefined }
    : T;

/** A fault of reading with its place in the file or the environment. */
export function placed(fault: ReadFault, document: Document, key: string): Fault {
  const { variable, wrong, allowed } = fault;
  const place = variable === undefined ? document.place(fault.path, fault.atKey) : { variable };
  return { place, key, wrong, allowed };
}

/** An effective value under the key that its path, or a part of it, gives. */
export function effectiveValue({ value, source, variable, secret }: ReadValue, at: Path): EffectiveValue {
  return { key: keyText(at), value, source, variable: source === "environment" ? variable : undefined, secret };
}

/** What of a plugin's configuration is secret is known only to the plugin's own schema. */
function masked(value: ReadValue): ReadValue {
  return value.path[0] === "plugins" && value.path[2] === "config" ? { ...value, secret: true } : value;
}

function pluginEntries(entries: readonly Draft<PluginJson>[]): Map<number, PluginEntry> {
  const found = new Map<number, PluginEntry>();
  for (const [index, entry] of entries.entries()) {
    // Where another key is wrong, nothing starts, but that must not hide what is wrong with the plugin.
    const { use, config, directions = [], onError = "continue", requestTimeout = 0 } = entry;
    if (use === undefined || config === undefined) continue;
    found.set(index, toPluginEntry({ use, config, directions, onError, requestTimeout } as PluginJson));
  }
  return found;
}

/** Faults that one field by itself does not show: names, files, and what excludes each other. */
function crossCheck(json: Draft<SidecarJson>, folder: string, reading: Reading): void {
  const { inbound, outbound, backends = {} } = json;
  if (inbound === null && outbound === null) {
    reading.fault([], "there is neither inbound nor outbound", "give at least one of them");
  }
  const names = Object.keys(backends);
  const checkUpstream = (
    upstream: string | undefined,
    tls: Draft<TlsJson> | null | undefined,
    at: Path,
    tlsKey = "tls",
  ): void => {
    if (tls) checkTlsFiles(tls, folder, [...at, tlsKey], reading);
    if (upstream === undefined) return;
    const isUrl = looksLikeUrl(upstream);
    if (!isUrl && !names.includes(upstream)) {
      const suggestion = nearest(upstream, names);
      const known = names.length === 0 ? "there are no backends" : `backends: ${names.join(", ")}`;
      const allowed = suggestion === undefined ? known : `did you mean "${suggestion}"?`;
      const from = reading.valueAt([...at, "upstream"]);
      const variable = from?.source === "environment" ? from.variable : undefined;
      reading.fault(
        [...at, "upstream"],
        `no backend is named ${show(upstream)}`,
        allowed,
        variable === undefined ? {} : { variable },
      );
    }
    if (!tls || (isUrl && parseOrigin(upstream).scheme === "https")) return;
    const allowed = isUrl ? 'needs an "https://" upstream' : `belongs into backends.${upstream}.tls`;
    reading.fault([...at, tlsKey], `has no effect on ${show(upstream)}`, allowed);
  };
  checkToken(json.admin ?? {}, folder, reading);
  if (inbound?.tls) checkListenerFiles(inbound.tls, folder, ["inbound", "tls"], reading);
  if (outbound?.tls) checkListenerFiles(outbound.tls, folder, ["outbound", "tls"], reading);
  if (inbound) checkUpstream(inbound.upstream, inbound.upstreamTls, ["inbound"], "upstreamTls");
  for (const [index, route] of (outbound?.routes ?? []).entries()) {
    checkUpstream(route.upstream, route.tls, ["outbound", "routes", index]);
  }
  for (const [name, { tls }] of Object.entries(backends as Record<string, Draft<BackendJson>>)) {
    if (typeof tls === "object") checkTlsFiles(tls, folder, ["backends", name, "tls"], reading);
  }
}

function toConfig(json: SidecarJson, folder: string, file: string): SidecarConfig {
  const { inbound, outbound, telemetry, limits, drain } = json;
  const backends = new Map(
    Object.entries(json.backends).map(([name, entry]) => [name, toBackend(name, entry, folder)]),
  );
  return {
    service: json.service,
    forwarder: json.forwarder,
    inbound: inbound === null ? undefined : toInbound(inbound, backends, folder),
    outbound: outbound === null ? undefined : toOutbound(outbound, backends, folder),
    backends,
    admin: {
      listen: parseHostPort(json.admin.listen),
      probes: json.admin.probes === null ? undefined : parseHostPort(json.admin.probes),
      token: readToken(json.admin, folder),
    },
    plugins: json.plugins.map(toPluginEntry),
    telemetry: {
      traces: telemetry.traces,
      metrics: {
        prometheus: telemetry.metrics.prometheus,
        otlp: telemetry.metrics.otlp,
        otlpIntervalMs: telemetry.metrics.otlpInterval,
      },
      otlp: { endpoint: telemetry.otlp.endpoint ?? undefined, protocol: telemetry.otlp.protocol },
    },
    log: json.log,
    limits: {
      headBytes: limits.head,
      fields: limits.fields,
      targetBytes: limits.target,
      replayBytes: limits.replay,
      streams: limits.streams,
    },
    drain: { deadlineMs: drain.deadline, idleGraceMs: drain.idleGrace },
    reload: json.reload,
    learning: {
      stateFile: json.learning.stateFile === null ? undefined : path.resolve(folder, json.learning.stateFile),
    },
    forwarding: { ...json.forwarding, trusted: json.forwarding.trusted.map(parseRange) },
    folder,
    file: path.resolve(file),
  };
}

function toInbound(json: InboundJson, backends: ReadonlyMap<string, BackendConfig>, folder: string): InboundConfig {
  const { loadBalancer } = json;
  return {
    ...timeouts(json),
    ...listenerOf(json, folder),
    upstream: toUpstream({ upstream: json.upstream, tls: json.upstreamTls }, backends, folder),
    loadBalancer:
      loadBalancer === null ? undefined : { name: loadBalancer.name, idleTimeoutMs: loadBalancer.idleTimeout },
  };
}

function toOutbound(json: OutboundJson, backends: ReadonlyMap<string, BackendConfig>, folder: string): OutboundConfig {
  return {
    ...timeouts(json),
    ...listenerOf(json, folder),
    routes: json.routes.map((route) => ({
      ...parseRouteHost(route.host),
      upstream: toUpstream(route, backends, folder),
    })),
    unmatched: json.unmatched,
  };
}

function timeouts(
  json: InboundJson | OutboundJson,
): Pick<InboundConfig, "connectTimeoutMs" | "responseTimeoutMs" | "tunnelIdleTimeoutMs" | "dnsRefreshMs"> {
  return {
    connectTimeoutMs: json.connectTimeout,
    responseTimeoutMs: json.responseTimeout,
    tunnelIdleTimeoutMs: json.tunnelIdleTimeout,
    dnsRefreshMs: json.dnsRefresh,
  };
}

function listenerOf(json: InboundJson | OutboundJson, folder: string): Pick<InboundConfig, "listen" | "tls" | "http2"> {
  return {
    listen: parseHostPort(json.listen),
    tls: json.tls === null ? undefined : toListenerTls(json.tls, folder),
    http2: json.http2,
  };
}

function toListenerTls(json: ListenerTlsJson, folder: string): ListenerTls {
  return {
    cert: path.resolve(folder, json.cert),
    key: path.resolve(folder, json.key),
    clientCa: json.clientCa === null ? undefined : path.resolve(folder, json.clientCa),
    requireClientCertificate: json.requireClientCertificate,
    minVersion: json.minVersion,
  };
}

function toUpstream(
  { upstream, tls }: { readonly upstream: string; readonly tls: TlsJson | null },
  backends: ReadonlyMap<string, BackendConfig>,
  folder: string,
): Upstream {
  const named = backends.get(upstream);
  if (named !== undefined) return { origin: named.origin, backend: named.backend, tls: named.tls };
  const origin = parseOrigin(upstream);
  return { origin, backend: undefined, tls: origin.scheme === "https" ? toTls(tls, folder) : undefined };
}

function toBackend(name: string, json: BackendJson, folder: string): BackendConfig {
  const secure = json.tls !== false;
  const port = json.port ?? (secure ? 443 : 80);
  return {
    origin: { scheme: secure ? "https" : "http", host: json.address.toLowerCase(), port },
    backend: name,
    tls: secure ? toTls(typeof json.tls === "object" ? json.tls : null, folder) : undefined,
    settings: { name, idleTimeoutMs: json.keepaliveTime ?? undefined, tcpKeepAlive: toTcpKeepAlive(json.tcpKeepalive) },
  };
}

function toTcpKeepAlive({ enable, time, interval, probes }: BackendJson["tcpKeepalive"]): Partial<TcpKeepAlive> {
  return {
    ...(enable !== null && { enable }),
    ...(time !== null && { timeMs: time }),
    ...(interval !== null && { intervalMs: interval }),
    ...(probes !== null && { probes }),
  };
}

function toTls(json: TlsJson | null, folder: string): UpstreamTls {
  const file = (name: string | null | undefined): string | undefined =>
    name === null || name === undefined ? undefined : path.resolve(folder, name);
  return {
    ca: file(json?.ca),
    cert: file(json?.cert),
    key: file(json?.key),
    serverName: json?.serverName ?? undefined,
  };
}

function toPluginEntry(json: PluginJson): PluginEntry {
  const { use, config, directions, onError, requestTimeout } = json;
  return { use, config, directions, onError, requestTimeoutMs: requestTimeout };
}
