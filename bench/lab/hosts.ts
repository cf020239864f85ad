/**
 * What runs on the two hosts: the origin, sidecars, and who fetches.
 *
 * @module
 */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { type Running, start } from "../processes.ts";
import type { Answer, Destination, Job } from "./fetcher.ts";
import { ADDRESSES, type Host, type Network, said } from "./network.ts";
import { ORIGIN_PORTS } from "./origin.ts";

const MAIN = path.join(import.meta.dirname, "..", "..", "src", "main.ts");

/** Name that the certificate of the far host is for. */
export const ORIGIN_NAME = "origin.lab";

/** Where everything of a run is written, and what its origin is trusted by. */
export interface Place {
  /** Has cert.pem and key.pem, of the origin and of the sidecar beside it. */
  readonly folder: string;
  /** PEM of the authority. */
  readonly ca: string;
}

/** Starts the origin on the far host. */
export async function startOrigin(network: Network, { folder }: Place): Promise<Running> {
  const origin = start({
    name: `origin-${next()}`,
    command: [...network.on("far"), process.execPath, path.join(import.meta.dirname, "origin.ts"), folder],
    folder,
    core: undefined,
  });
  await said(origin, "ready\n");
  return origin;
}

/** Who fetches, on the near host. */
export interface Fetcher {
  run<K extends Job["kind"]>(job: Extract<Job, { kind: K }>): Promise<Extract<Answer, { kind: K }>>;
  stop(): Promise<void>;
}

/** Starts it. */
export function startFetcher(network: Network, { folder }: Place): Fetcher {
  const running = start({
    name: `fetcher-${next()}`,
    command: [...network.on("near"), process.execPath, path.join(import.meta.dirname, "fetcher.ts")],
    folder,
    core: undefined,
    hasChannel: true,
  });
  return {
    async run<K extends Job["kind"]>(job: Extract<Job, { kind: K }>) {
      const answered = once(running.process, "message") as Promise<[Answer]>;
      running.process.send(job);
      const [answer] = await Promise.race([answered, running.unexpectedEnd]);
      if (answer.kind === "error") throw new Error(answer.message);
      return answer as Extract<Answer, { kind: K }>;
    },
    stop: () => running.stop(),
  };
}

/** A sidecar and how it is reached. */
export interface LabSidecar {
  readonly to: Destination;
  stop(): Promise<void>;
  /** Ends it with whatever it carries. */
  kill(): Promise<void>;
  /** Starts it again, after `stop`. */
  startAgain(): Promise<void>;
}

/** Plugins of a sidecar; `undefined`: the built-in ones at their defaults. */
export type PluginEntries = readonly { readonly use: string; readonly config?: object }[];

const DEFAULT_PLUGINS: PluginEntries = [{ use: "keep-alive" }, { use: "tcp-keepalive" }, { use: "idle-timeout" }];

const BASE = {
  service: "lab",
  admin: { listen: "127.0.0.1:0" },
  telemetry: { traces: { exporters: ["none"] }, metrics: { prometheus: false } },
  log: { level: "info", access: false },
  // Without a grace, a request of a busy caller could meet the close of its connection.
  drain: { idleGrace: "1s", deadline: "4s" },
};

/** A sidecar beside the fetcher: it is called in plain HTTP over loopback, and calls the origin across the link. */
export async function startOutbound(
  network: Network,
  place: Place,
  options: { readonly scheme: "http" | "https"; readonly port?: number; readonly plugins?: PluginEntries },
): Promise<LabSidecar> {
  const { scheme, port = 15_001, plugins = DEFAULT_PLUGINS } = options;
  const address = ADDRESSES.far;
  const configuration = {
    ...BASE,
    outbound: { listen: `127.0.0.1:${port}`, routes: [{ host: ORIGIN_NAME, upstream: "origin" }], unmatched: "deny" },
    backends: {
      origin: {
        address,
        port: ORIGIN_PORTS[scheme],
        ...(scheme === "https" && { tls: { ca: path.join(place.folder, "ca.pem"), serverName: ORIGIN_NAME } }),
      },
    },
    plugins,
  };
  const to: Destination = { scheme: "http", address: "127.0.0.1", port, host: ORIGIN_NAME };
  return await startSidecar(network, place, "near", configuration, to);
}

/** A sidecar beside an origin that closes every connection after one response; callers reach it across the link. */
export async function startInbound(
  network: Network,
  place: Place,
  { scheme }: { readonly scheme: "http" | "https" },
): Promise<LabSidecar> {
  const port = 15_006;
  const configuration = {
    ...BASE,
    inbound: {
      listen: `0.0.0.0:${port}`,
      upstream: `http://127.0.0.1:${ORIGIN_PORTS.closing}`,
      ...(scheme === "https" && {
        tls: { cert: path.join(place.folder, "cert.pem"), key: path.join(place.folder, "key.pem") },
      }),
    },
    plugins: DEFAULT_PLUGINS,
  };
  const to: Destination = {
    scheme,
    address: ADDRESSES.far,
    port,
    host: ORIGIN_NAME,
    ...(scheme === "https" && { ca: place.ca }),
  };
  return await startSidecar(network, place, "far", configuration, to);
}

/** The origin itself, across the link. */
export function directly({ ca }: Place, scheme: "http" | "https"): Destination {
  const to = { scheme, address: ADDRESSES.far, port: ORIGIN_PORTS[scheme], host: ORIGIN_NAME };
  return scheme === "https" ? { ...to, ca } : to;
}

async function startSidecar(
  network: Network,
  { folder }: Place,
  host: Host,
  configuration: object,
  to: Destination,
): Promise<LabSidecar> {
  const name = `sidecar-${next()}`;
  const file = path.join(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify(configuration, null, 2));
  let starts = 0;
  const launch = async () => {
    const running = start({
      // A log of its own each time.
      name: `${name}-${starts++}`,
      command: [...network.on(host), process.execPath, MAIN, "run", "--config", file],
      folder,
      core: undefined,
    });
    await said(running, ": ready");
    return running;
  };
  let running = await launch();
  return {
    to,
    stop: () => running.stop(),
    kill: () => running.kill(),
    async startAgain() {
      running = await launch();
    },
  };
}

let started = 0;

function next(): number {
  return ++started;
}
