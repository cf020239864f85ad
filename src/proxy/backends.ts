/**
 * The named backends while the process runs: objects whose settings change in place, and those who want to know.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { BackendConfig, UpstreamTls } from "../config/sidecar-config.ts";
import type { Backend, Origin, TcpKeepAlive } from "../plugin/api.ts";

/**
 * A named backend. The object is the same for as long as the backend has this origin and TLS; its settings change only
 * through {@link Backends}.
 */
export interface LiveBackend extends Backend {
  readonly origin: Origin;
  readonly tls: UpstreamTls | undefined;
}

/** What to change. A field that is absent stays; `null` gives the setting back to the plugins. */
export interface BackendPatch {
  readonly idleTimeoutMs?: number | null;
  readonly tcpKeepAlive?: { readonly [K in keyof TcpKeepAlive]?: TcpKeepAlive[K] | null };
}

/** Told after a backend's settings changed, with its live object. */
export type BackendListener = (backend: Backend) => void;

/** The backends of a configuration that is not in force yet. */
export interface PlannedBackends {
  /** The object that is live once the plan is {@link Backends.adopt adopted}. */
  get(name: string): LiveBackend | undefined;
}

class Plan implements PlannedBackends {
  readonly entries = new Map<string, Entry>();
  readonly configured: ReadonlyMap<string, BackendConfig>;

  constructor(configured: ReadonlyMap<string, BackendConfig>, before: ReadonlyMap<string, Entry>) {
    this.configured = configured;
    for (const [name, config] of configured) {
      const entry = before.get(name);
      this.entries.set(name, entry?.isFor(config) ? entry : new Entry(name, config));
    }
  }

  get(name: string): LiveBackend | undefined {
    return this.entries.get(name);
  }
}

/** Every named backend of the configuration, in its order. */
export class Backends {
  #entries: ReadonlyMap<string, Entry> = new Map();
  readonly #listeners = new Set<BackendListener>();

  constructor(configured: ReadonlyMap<string, BackendConfig>) {
    this.adopt(this.plan(configured));
  }

  /** What another configuration would make of them. Backends that stay where they are stay the same objects. */
  plan(configured: ReadonlyMap<string, BackendConfig>): PlannedBackends {
    return new Plan(configured, this.#entries);
  }

  /**
   * Puts a plan into force: settings become what its configuration says, whatever {@link update} made of them, and
   * listeners are told of each backend whose settings are different now.
   */
  adopt(plan: PlannedBackends): void {
    if (!(plan instanceof Plan)) throw new TypeError("not a plan of Backends.plan");
    this.#entries = plan.entries;
    for (const [name, { settings }] of plan.configured) {
      const entry = plan.entries.get(name)!;
      if (entry.replace(settings)) for (const listener of this.#listeners) listener(entry);
    }
  }

  /** The live object of this name; `undefined` if there is no such backend. */
  get(name: string): LiveBackend | undefined {
    return this.#entries.get(name);
  }

  /** Names in the order of the configuration. */
  names(): string[] {
    return [...this.#entries.keys()];
  }

  /**
   * Changes settings in place, all of the patch at once, then tells every listener if anything is different now.
   *
   * @param patch - values as the types of `Backend` describe them; ranges are the caller's to check
   * @throws RangeError when there is no backend of this name
   */
  update(name: string, patch: BackendPatch): LiveBackend {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw new RangeError(`no backend is named ${JSON.stringify(name)}`);
    if (entry.apply(patch)) for (const listener of this.#listeners) listener(entry);
    return entry;
  }

  /** Calls the listener after each change; returns what ends that. */
  subscribe(listener: BackendListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }
}

class Entry implements LiveBackend {
  readonly name: string;
  readonly origin: Origin;
  readonly tls: UpstreamTls | undefined;
  #idleTimeoutMs: number | undefined;
  #tcpKeepAlive: Partial<TcpKeepAlive>;

  constructor(name: string, config: BackendConfig) {
    this.name = name;
    this.origin = config.origin;
    this.tls = config.tls;
    this.#idleTimeoutMs = config.settings.idleTimeoutMs;
    this.#tcpKeepAlive = Object.freeze(withoutUndefined(config.settings.tcpKeepAlive));
  }

  get idleTimeoutMs(): number | undefined {
    return this.#idleTimeoutMs;
  }

  get tcpKeepAlive(): Partial<TcpKeepAlive> {
    return this.#tcpKeepAlive;
  }

  /** Whether a configuration means the same upstream, whatever its settings. */
  isFor({ origin, tls }: BackendConfig): boolean {
    return isDeepStrictEqual(origin, this.origin) && isDeepStrictEqual(tls, this.tls);
  }

  /** Tells whether anything is different now. */
  apply(patch: BackendPatch): boolean {
    const before = this.#tcpKeepAlive;
    const change = patch.tcpKeepAlive ?? {};
    return this.replace({
      idleTimeoutMs: patched(this.#idleTimeoutMs, patch.idleTimeoutMs),
      tcpKeepAlive: withoutUndefined({
        enable: patched(before.enable, change.enable),
        timeMs: patched(before.timeMs, change.timeMs),
        intervalMs: patched(before.intervalMs, change.intervalMs),
        probes: patched(before.probes, change.probes),
      }),
    });
  }

  /** Tells whether anything is different now. */
  replace({ idleTimeoutMs, tcpKeepAlive }: Pick<Backend, "idleTimeoutMs" | "tcpKeepAlive">): boolean {
    const before = this.#tcpKeepAlive;
    const after = withoutUndefined(tcpKeepAlive);
    const changed =
      idleTimeoutMs !== this.#idleTimeoutMs ||
      after.enable !== before.enable ||
      after.timeMs !== before.timeMs ||
      after.intervalMs !== before.intervalMs ||
      after.probes !== before.probes;
    this.#idleTimeoutMs = idleTimeoutMs;
    this.#tcpKeepAlive = Object.freeze(after);
    return changed;
  }
}

function patched<T>(before: T | undefined, change: T | null | undefined): T | undefined {
  return change === undefined ? before : (change ?? undefined);
}

/** `Partial<TcpKeepAlive>` says absent, not `undefined`: a plugin may spread it over its own values. */
function withoutUndefined(settings: { readonly [K in keyof TcpKeepAlive]?: TcpKeepAlive[K] | undefined }) {
  const present: { -readonly [K in keyof TcpKeepAlive]?: TcpKeepAlive[K] } = {};
  if (settings.enable !== undefined) present.enable = settings.enable;
  if (settings.timeMs !== undefined) present.timeMs = settings.timeMs;
  if (settings.intervalMs !== undefined) present.intervalMs = settings.intervalMs;
  if (settings.probes !== undefined) present.probes = settings.probes;
  return present;
}
