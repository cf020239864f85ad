/**
 * The named backends while the process runs: objects whose settings change in place, and those who want to know.
 *
 * @module
 */
import type { BackendConfig, UpstreamTls } from "../config/sidecar-config.ts";
import type { Backend, Origin, TcpKeepAlive } from "../plugin/api.ts";

/** A named backend. The object is the same for the life of the process; its settings change only through {@link Backends.update}. */
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

/** Every named backend of the configuration, in its order. */
export class Backends {
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<BackendListener>();

  constructor(configured: ReadonlyMap<string, BackendConfig>) {
    for (const [name, config] of configured) this.#entries.set(name, new Entry(name, config));
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

  /** Tells whether anything is different now. */
  apply(patch: BackendPatch): boolean {
    const idleTimeoutMs = patched(this.#idleTimeoutMs, patch.idleTimeoutMs);
    const before = this.#tcpKeepAlive;
    const change = patch.tcpKeepAlive ?? {};
    const after = withoutUndefined({
      enable: patched(before.enable, change.enable),
      timeMs: patched(before.timeMs, change.timeMs),
      intervalMs: patched(before.intervalMs, change.intervalMs),
      probes: patched(before.probes, change.probes),
    });
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
