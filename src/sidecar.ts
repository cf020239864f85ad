/**
 * The composition root: telemetry → plugins → inbound → outbound → admin.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { LookupFunction } from "node:net";
import type { Logger as PinoLogger } from "pino";
import { type Admin, type AdminOptions, startAdmin } from "./admin/http.ts";
import type { LogLevel, SidecarState, SidecarView } from "./admin/view.ts";
import type { Environment, LoadedConfig } from "./config/load.ts";
import type { ForwarderName, HostPort, SidecarConfig } from "./config/sidecar-config.ts";
import { HoldfastError } from "./errors.ts";
import { Filters } from "./filters.ts";
import { buildGeneration } from "./generation.ts";
import { Learning } from "./learning/learning.ts";
import { StateFile } from "./learning/state-file.ts";
import type { Loaded } from "./load.ts";
import type { Connection, Direction } from "./plugin/api.ts";
import type { LoadedPlugin } from "./plugin/loader.ts";
import { Backends, type PlannedBackends } from "./proxy/backends.ts";
import { type Prepared, ProxyDirection } from "./proxy/direction.ts";
import { Drain, type Drained } from "./proxy/drain.ts";
import type { ForwarderFactory } from "./proxy/forwarder.ts";
import { httpProxy3Forwarder } from "./proxy/http-proxy-3/forwarder.ts";
import { OpenConnections } from "./proxy/open-connections.ts";
import { Sweep } from "./proxy/sweep.ts";
import { wireForwarder } from "./proxy/wire/forwarder.ts";
import { Reload, type ReloadReport, type ReloadTrigger } from "./reload.ts";
import type { ConsoleOutput } from "./telemetry/console-exporter.ts";
import { startTelemetry, type Telemetry } from "./telemetry/start.ts";
import { VERSION } from "./version.ts";

const FORWARDERS: Record<ForwarderName, ForwarderFactory> = {
  wire: wireForwarder,
  "http-proxy-3": httpProxy3Forwarder,
};

/** What a sidecar is started with. */
export interface SidecarOptions {
  readonly loaded: LoadedConfig;
  readonly plugins: readonly LoadedPlugin[];
  /** Reads the configuration anew, for a reload. */
  readonly load: () => Promise<Loaded>;
  readonly log: PinoLogger;
  /** For the standard `OTEL_*` variables. */
  readonly env: Environment;
  /** Where the `console` trace exporter prints. */
  readonly output: ConsoleOutput;
  /** How names of upstreams are looked up. Default: as the system does it. */
  readonly lookup?: LookupFunction | undefined;
}

/** A running sidecar. */
export interface Sidecar {
  readonly addresses: {
    readonly inbound: HostPort | undefined;
    readonly outbound: HostPort | undefined;
    readonly admin: HostPort;
    /** Where probes and Prometheus are answered besides; `undefined`: nowhere. */
    readonly probes: HostPort | undefined;
  };
  /** What is in force. */
  readonly config: SidecarConfig;
  /** What the admin API shows. */
  readonly view: SidecarView;
  /** Resolves when what is loaded only after the start is loaded: the OpenTelemetry SDK, where it is needed. */
  readonly loaded: Promise<void>;
  /**
   * Reads the configuration anew and puts it into force for whatever begins from then on, or changes nothing. Never
   * rejects.
   */
  reload(trigger: ReloadTrigger): Promise<ReloadReport>;
  /**
   * Finishes what is in flight, inbound before outbound, then closes everything. What {@link SidecarView.drain} began
   * goes on; later calls wait for the same end.
   */
  drain(): Promise<Drained>;
  /** Resolves when a drain is over, whether a call, a signal or the admin API began it. */
  readonly drained: Promise<Drained>;
  /** Closes everything now; ends a drain that is under way. */
  stop(): Promise<Drained>;
}

/**
 * Starts a sidecar: resolves when every listener is up.
 *
 * @throws HoldfastError `HF_CONFIG` when listeners or plugins cannot start, with a line for each of them; what was
 *   started is closed again
 */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const { config } = options.loaded;
  const { log } = options;
  const started: (() => unknown)[] = [];
  const failures: unknown[] = [];
  let state: SidecarState = "starting";
  /** The configuration in force. */
  let current: Loaded = options;

  const telemetry = startTelemetry({ ...options, config: config.telemetry, service: config.service, version: VERSION });
  started.push(() => telemetry.shutdown());
  const backends = new Backends(config.backends);
  const sweep = new Sweep();
  const learning = new Learning();
  const { stateFile } = config.learning;
  const memory = stateFile === undefined ? undefined : new StateFile(stateFile, learning, log);
  memory?.load();
  const sweepLearning = (nowMs: number): void => {
    learning.sweep(nowMs);
    memory?.sweep(nowMs);
  };
  sweep.add(sweepLearning);
  started.push(() => sweep.remove(sweepLearning));
  const instance = randomBytes(4).toString("hex");
  const surroundings: Surroundings = {
    ...options,
    telemetry,
    sweep,
    learning,
    ownPorts: new Map(),
    instance,
    started,
  };

  try {
    const inbound = config.inbound && (await buildSide("inbound", options, backends, surroundings, failures));
    const outbound = config.outbound && (await buildSide("outbound", options, backends, surroundings, failures));
    if (failures.length > 0) throw startFailure(failures);
    const sides = [inbound, outbound].filter((side) => side !== undefined);
    backends.subscribe((backend) => {
      for (const { direction } of sides) {
        for (const connection of direction.connections) if (connection.backend === backend) connection.backendChanged();
      }
    });

    const drain = new Drain({
      inbound: inbound?.direction,
      outbound: outbound?.direction,
      get config() {
        return current.loaded.config.drain;
      },
      log,
      onBegin() {
        state = "draining";
      },
      async close() {
        await Promise.all(sides.map(({ direction }) => direction.close()));
        sweep.remove(sweepLearning);
        await memory?.save();
        await telemetry.shutdown();
        state = "stopped";
        // Last, so that /readyz and /metrics answer until the end.
        await Promise.all([admin?.close(), probes?.close()]);
      },
    });

    /** Makes another configuration ready; once all of it is, puts it into force. Throws, or does all of it. */
    async function adopt(next: Loaded): Promise<void> {
      const { config } = next.loaded;
      const failures: unknown[] = [];
      const planned = backends.plan(config.backends);
      const ready: { readonly direction: ProxyDirection; prepared: Prepared }[] = [];
      for (const { direction, filters } of sides) {
        const { name } = direction;
        const inForce = { from: current, generation: direction.generation };
        const options = { backends: planned, filters, instance, failures, inForce };
        const generation = await buildGeneration(name, next, options);
        if (generation === undefined) continue;
        ready.push({ direction, prepared: { generation, listener: undefined, termination: undefined } });
      }
      // Not before every plugin is set up, as at the start.
      for (const each of ready) {
        const prepared = await each.direction.prepare(each.prepared.generation).catch((error: unknown) => {
          failures.push(error);
          return undefined;
        });
        if (prepared !== undefined) each.prepared = prepared;
      }
      if (state !== "running") failures.push(new HoldfastError("HF_CONFIG", "the sidecar is draining"));
      if (failures.length > 0) {
        for (const { direction, prepared } of ready) await direction.discard(prepared);
        throw startFailure(failures);
      }

      // From here on nothing can fail, and nothing waits.
      current = next;
      log.level = config.log.level;
      backends.adopt(planned);
      for (const { direction, prepared } of ready) direction.adopt(prepared);
      noteOwnPorts();
    }

    const reload = new Reload({
      load: options.load,
      current: () => current,
      isRunning: () => state === "running",
      adopt,
      onOver: ({ result }) => telemetry.reloaded(result),
      log,
    });

    const view: SidecarView = {
      service: config.service,
      version: VERSION,
      startedAtEpochMs: Date.now(),
      get state() {
        return state;
      },
      ready: () => state === "running",
      *connections() {
        for (const { direction } of sides) yield* direction.connections as Iterable<Connection>;
      },
      *pools() {
        for (const { direction } of sides) yield* direction.pools;
      },
      *origins() {
        for (const { direction } of sides) yield* direction.pools;
      },
      *callers() {
        for (const { direction } of sides) yield [direction.name, direction.callers];
      },
      get plugins() {
        return current.plugins.map(({ plugin, entry, values }) => ({
          name: plugin.name,
          description: plugin.description,
          use: entry.use,
          directions: entry.directions,
          onError: entry.onError,
          config: values,
        }));
      },
      get values() {
        return current.loaded.values;
      },
      get logLevel() {
        return log.level as LogLevel;
      },
      set logLevel(level) {
        log.level = level;
      },
      drain: () => drain.begin(),
      reload: () => reload.run("admin"),
      get lastReload() {
        return reload.last;
      },
      backends,
      prometheusText: () => telemetry.prometheusText(),
    };

    // Not before every plugin is set up: what listens can serve.
    for (const { direction } of sides) await direction.start().catch((error: unknown) => failures.push(error));
    const adminLog = log.child({ part: "admin" });
    const serve = async (options: Pick<AdminOptions, "listen" | "serves" | "token">): Promise<Admin | undefined> => {
      try {
        const server = await startAdmin({ ...options, view, log: adminLog });
        started.push(() => server.close());
        return server;
      } catch (error) {
        failures.push(error);
        return undefined;
      }
    };
    const admin = await serve(config.admin);
    const probes = config.admin.probes && (await serve({ listen: config.admin.probes, serves: "probes" }));
    if (admin === undefined || failures.length > 0) throw startFailure(failures);
    const { address: adminAddress } = admin;
    function noteOwnPorts(): void {
      const { ownPorts } = surroundings;
      ownPorts.clear();
      ownPorts.set(adminAddress.port, "admin");
      if (probes !== undefined) ownPorts.set(probes.address.port, "admin");
      if (outbound !== undefined) ownPorts.set(outbound.direction.address.port, "outbound");
    }
    noteOwnPorts();

    state = "running";
    const addresses = (): Sidecar["addresses"] => {
      return {
        inbound: inbound?.direction.address,
        outbound: outbound?.direction.address,
        admin: adminAddress,
        probes: probes?.address,
      };
    };
    log.info({ addresses: addresses(), version: VERSION, forwarder: config.forwarder }, `${config.service}: ready`);
    // Only now: loading the SDK takes longer than all of the above.
    const loaded = telemetry.load();

    return {
      get addresses() {
        return addresses();
      },
      get config() {
        return current.loaded.config;
      },
      view,
      loaded,
      reload: (trigger) => reload.run(trigger),
      drain: () => drain.release(),
      drained: drain.end,
      stop: () => drain.force(),
    };
  } catch (error) {
    for (const stop of started.reverse()) await stop();
    throw error;
  }
}

/** What both directions are built from, whatever the configuration says. */
interface Surroundings extends SidecarOptions {
  readonly telemetry: Telemetry;
  readonly sweep: Sweep;
  readonly learning: Learning;
  /** Ports of this sidecar that must not be reached through it; filled as they are bound. */
  readonly ownPorts: Map<number, "admin" | "outbound">;
  /** Tells this process from others of the same service, to recognise a loop. */
  readonly instance: string;
  /** What undoes each step of the start, in its order. */
  readonly started: (() => unknown)[];
}

/** A direction, and what makes its filters. */
interface SidecarSide {
  readonly direction: ProxyDirection;
  readonly filters: Filters;
}

/** @param failures - gets what could not be started; the start goes on, so that all of it is told at once */
async function buildSide(
  name: Direction,
  loaded: Loaded,
  backends: PlannedBackends,
  surroundings: Surroundings,
  failures: unknown[],
): Promise<SidecarSide | undefined> {
  const { config } = loaded.loaded;
  const { telemetry, lookup, ownPorts, sweep, instance, started } = surroundings;
  const log = surroundings.log.child({ direction: name });
  const connections = new OpenConnections();
  const filters = new Filters({ direction: name, telemetry, log, connections });
  const generation = await buildGeneration(name, loaded, { backends, filters, instance, failures });
  if (generation === undefined) return undefined;
  const direction = new ProxyDirection({
    name,
    service: config.service,
    generation,
    forwarder: FORWARDERS[config.forwarder],
    lookup,
    ownPorts,
    sweep,
    learning: surroundings.learning,
    log,
    connections,
  });
  started.push(async () => {
    direction.cut();
    await direction.close();
  });
  return { direction, filters };
}

/** One failure with a line for each. */
function startFailure(failures: readonly unknown[]): HoldfastError {
  const lines = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)));
  return new HoldfastError("HF_CONFIG", lines.join("\n"), { cause: failures[0] });
}
