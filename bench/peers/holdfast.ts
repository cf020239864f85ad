/**
 * Holdfast as `holdfast run` starts it, from `dist`.
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { SERVER_NAME, type Upstream } from "../origin/origin.ts";
import type { Peer, PeerName, PeerSetting } from "./peer.ts";

const ROOT = path.join(import.meta.dirname, "..", "..");

/** What differs between the variants. */
interface Variant {
  readonly name: PeerName;
  readonly label: string;
  readonly forwarder: "wire" | "http-proxy-3";
  /** Share of requests that are traced; `undefined`: no telemetry at all. */
  readonly traceRatio: number | undefined;
  /** 20 more plugins whose hooks do nothing, or that have none. */
  readonly morePlugins?: "no-op" | "empty";
}

const WIRE = { name: "holdfast", forwarder: "wire", traceRatio: 0.01 } as const;

/** All five built-in plugins, metrics, one trace in a hundred, no access log. */
export const holdfast: Peer = variant({ ...WIRE, label: "holdfast" });
/** The same with every request traced and exported. */
export const holdfastTraced: Peer = variant({
  ...WIRE,
  name: "holdfast-traced",
  label: "holdfast-traced",
  traceRatio: 1,
});
/** The same as `holdfast`, carried by http-proxy-3. */
export const holdfastHttpProxy3: Peer = variant({
  ...WIRE,
  name: "holdfast-http-proxy-3",
  label: "holdfast-http-proxy-3",
  forwarder: "http-proxy-3",
});
/** `holdfast` with 20 plugins more, each with every hook, none of which does anything. */
export const holdfastNoOps: Peer = variant({ ...WIRE, label: "holdfast-20-no-op", morePlugins: "no-op" });
/** `holdfast` with 20 plugins more that define no hook. */
export const holdfastEmpty: Peer = variant({ ...WIRE, label: "holdfast-20-without-hooks", morePlugins: "empty" });
/** `holdfast` without metrics and traces. */
export const holdfastSilent: Peer = variant({ ...WIRE, label: "holdfast-telemetry-off", traceRatio: undefined });

const BUILT_INS = [
  { use: "keep-alive" },
  { use: "tcp-keepalive" },
  { use: "idle-timeout" },
  { use: "connection-limits" },
  { use: "connection-close-on-logout", config: { match: [{ method: "POST", path: "/logout" }] } },
];
const MORE_PLUGINS = 20;

/** At full load there are ten times more spans than the SDK's default queue keeps; here every one of them counts. */
const EVERY_SPAN = { OTEL_BSP_MAX_QUEUE_SIZE: "65536", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2048" };

function variant(of: Variant): Peer {
  return {
    name: of.name,
    label: of.label,
    debianPackage: undefined,
    version: async () =>
      (JSON.parse(readFileSync(path.join(ROOT, "package.json"), "utf8")) as { version: string }).version,
    prepare(setting) {
      const file = path.join(setting.folder, "sidecar.json");
      writeFileSync(file, JSON.stringify(configuration(of, setting), null, 2));
      return {
        command: [process.execPath, path.join(ROOT, "dist", "src", "main.js"), "run", "--config", file],
        ...(of.traceRatio === 1 && { env: EVERY_SPAN }),
        complaints: (output) => output.split("\n").filter((line) => line !== "" && !line.includes('"level":"info"')),
      };
    },
  };
}

function configuration(of: Variant, { folder, port, upstream, collector }: PeerSetting): object {
  const isSecure = upstream.scheme === "https";
  return {
    service: "bench",
    forwarder: of.forwarder,
    inbound: {
      listen: `127.0.0.1:${port}`,
      upstream: isSecure ? "origin" : `http://${upstream.host}:${upstream.port}`,
    },
    backends: isSecure ? backend(upstream) : {},
    admin: { listen: "127.0.0.1:0" },
    plugins: [...BUILT_INS, ...morePlugins(of.morePlugins, folder)],
    telemetry:
      of.traceRatio === undefined
        ? { traces: { exporters: ["none"] }, metrics: { prometheus: false } }
        : { traces: { ratio: of.traceRatio }, otlp: { endpoint: collector } },
    log: { level: "info", access: false },
    drain: { idleGrace: "0s", deadline: "4s" },
  };
}

/** How TLS towards the upstream is set: by name. */
function backend({ host, port, ca }: Upstream): object {
  return { origin: { address: host, port, tls: { ca, serverName: SERVER_NAME } } };
}

function morePlugins(kind: Variant["morePlugins"], folder: string): object[] {
  if (kind === undefined) return [];
  const filter = kind === "no-op" ? NO_OP_FILTER : "{}";
  return Array.from({ length: MORE_PLUGINS }, (_, index) => {
    const name = `${kind}-${index + 1}`;
    const source = `const filter = ${filter};
export default { name: "${name}", apiVersion: 1, description: "Does nothing", config: {}, setup: () => filter };
`;
    writeFileSync(path.join(folder, `${name}.mjs`), source);
    return { use: `./${name}.mjs` };
  });
}

const NO_OP_FILTER = `(() => {
  const connectionHooks = { active() {}, idle() {}, close() {} };
  const exchangeHooks = { request() {}, upstreamConnected() {}, response() {}, end() {} };
  return { connection: () => connectionHooks, exchange: () => exchangeHooks };
})()`;
