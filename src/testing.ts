/**
 * What plugin authors test with: a real sidecar, on free ports of the loopback interface, in this process.
 *
 * ```ts
 * const sidecar = await startTestSidecar({ upstream: "http://127.0.0.1:8080", plugins: [{ plugin: myPlugin }] });
 * const response = await fetch(`${sidecar.inbound}/hello`);
 * await sidecar.stop();
 * ```
 *
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { LookupFunction } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Writable } from "node:stream";
import { pino } from "pino";
import type { HostPort } from "./config/sidecar-config.ts";
import { load } from "./load.ts";
import type { Direction, Plugin } from "./plugin/api.ts";
import type { ReloadReport } from "./reload.ts";
import { type Sidecar, startSidecar } from "./sidecar.ts";

/** A plugin to test, or the `use` of one: a built-in's name, a path or a package. */
export type TestPlugin =
  | {
      // Any plugin: what its configuration is, its own schema checks.
      // biome-ignore lint/suspicious/noExplicitAny: a plugin's type parameter is invariant
      readonly plugin: Plugin<any>;
      readonly config?: object;
      readonly directions?: readonly Direction[];
      readonly onError?: "continue" | "fail";
      readonly requestTimeout?: string;
    }
  | {
      readonly use: string;
      readonly config?: object;
      readonly directions?: readonly Direction[];
      readonly onError?: "continue" | "fail";
      readonly requestTimeout?: string;
    };

/** What to start. */
export interface TestSidecarOptions {
  /** Where inbound goes: `"http://127.0.0.1:8080"`. Left out: there is no inbound. */
  readonly upstream?: string;
  /** Whether there is an outbound side. Default: only when {@link upstream} is left out. */
  readonly outbound?: boolean;
  readonly plugins?: readonly TestPlugin[];
  /** More of sidecar.json, merged over the rest: `{ limits: { head: "8KiB" } }`. */
  readonly config?: Record<string, unknown>;
  /** Folder that relative paths in `use` and the configuration start from. Default: a new, empty one. */
  readonly folder?: string;
  /** Environment for the configuration and `OTEL_*` variables. Default: none. */
  readonly env?: Readonly<Record<string, string>>;
  /** How names of upstreams are looked up, as `net.connect` takes it. Default: as the system does it. */
  readonly lookup?: LookupFunction;
}

/** A running sidecar under test. */
export interface TestSidecar {
  /** `http://127.0.0.1:PORT`; throws when there is no such side. */
  readonly inbound: string;
  readonly outbound: string;
  readonly admin: string;
  readonly sidecar: Sidecar;
  /** Every log line so far, parsed; level `trace` and up. */
  readonly log: readonly Record<string, unknown>[];
  /** Everything that the `console` trace exporter printed so far. */
  readonly printed: () => string;
  /**
   * Reloads with another configuration, given as at the start; what is left out is as if it had been left out there.
   *
   * @returns what became of it; anything but `applied` changed nothing
   */
  reload(options: Pick<TestSidecarOptions, "upstream" | "outbound" | "plugins" | "config">): Promise<ReloadReport>;
  /** Closes everything now. */
  stop(): Promise<void>;
}

const registry = new Map<string, Plugin<unknown>>();
Object.defineProperty(globalThis, Symbol.for("holdfast.testing.plugins"), { value: registry, configurable: true });
let registered = 0;

/**
 * Starts a sidecar with this configuration through the same loading, checks and composition as `holdfast run`.
 *
 * @throws ConfigError with every fault of the configuration
 */
export async function startTestSidecar(options: TestSidecarOptions = {}): Promise<TestSidecar> {
  const made = mkdtempSync(path.join(tmpdir(), "holdfast-test-"));
  const folder = options.folder ?? made;
  const ids: string[] = [];
  const pluginEntry = (entry: TestPlugin): object => {
    if ("use" in entry) return entry;
    const { plugin, ...rest } = entry;
    const id = `${registered++}`;
    ids.push(id);
    registry.set(id, plugin as Plugin<unknown>);
    const file = path.join(made, `plugin-${id}.mjs`);
    writeFileSync(file, `export default globalThis[Symbol.for("holdfast.testing.plugins")].get("${id}");\n`);
    return { use: file, ...rest };
  };
  const file = path.join(folder, `sidecar-${process.pid}-${registered++}.json`);
  const write = (written: TestSidecarOptions): void => {
    const listen = "127.0.0.1:0";
    const { upstream, outbound = upstream === undefined, plugins = [], config = {} } = written;
    const base = {
      service: "test",
      ...(upstream === undefined ? {} : { inbound: { listen, upstream } }),
      ...(outbound ? { outbound: { listen } } : {}),
      admin: { listen },
      plugins: plugins.map(pluginEntry),
      telemetry: { traces: { exporters: [] } },
      log: { level: "trace" },
      drain: { deadline: "5s", idleGrace: "0s" },
    };
    writeFileSync(file, JSON.stringify(merge(base, config), null, 2));
  };
  const remove = (): void => {
    rmSync(file, { force: true });
    rmSync(made, { recursive: true, force: true });
  };

  const lines: Record<string, unknown>[] = [];
  let printed = "";
  const env = options.env ?? {};
  try {
    write(options);
    const { loaded, plugins: loadedPlugins } = await load(file, env);
    const sidecar = await startSidecar({
      loaded,
      plugins: loadedPlugins,
      load: () => load(file, env),
      log: pino(
        { level: loaded.config.log.level },
        collect((line) => lines.push(JSON.parse(line))),
      ),
      env,
      lookup: options.lookup,
      output: collect((text) => {
        printed += text;
      }),
    });
    return {
      get inbound() {
        return url(sidecar.addresses.inbound, "inbound", loaded.config.inbound?.tls !== undefined);
      },
      get outbound() {
        return url(sidecar.addresses.outbound, "outbound", loaded.config.outbound?.tls !== undefined);
      },
      admin: url(sidecar.addresses.admin, "admin", false),
      sidecar,
      log: lines,
      printed: () => printed,
      reload(next) {
        write(next);
        return sidecar.reload("admin");
      },
      async stop() {
        await sidecar.stop();
        remove();
        for (const id of ids) registry.delete(id);
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

function url(address: HostPort | undefined, side: string, secure: boolean): string {
  if (address === undefined) throw new Error(`this test sidecar has no ${side} side`);
  return `http${secure ? "s" : ""}://${address.host}:${address.port}`;
}

function collect(take: (text: string) => void): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk, _encoding, done) {
      take(String(chunk));
      done();
    },
  });
}

function merge(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isObject(below) && isObject(value) ? merge(below, value) : value;
  }
  return merged;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
