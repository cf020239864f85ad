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
import type {
  ForwarderName,
  HostPort,
  InboundConfig,
  OutboundConfig,
  SidecarConfig,
  UpstreamTls,
} from "./config/sidecar-config.ts";
import { HoldfastError } from "./errors.ts";
import { Learning } from "./learning/learning.ts";
import type { Connection, Direction, Filter, Plugin, PluginContext, PluginFailure, Side } from "./plugin/api.ts";
import { Chain, type ChainLink } from "./plugin/chain.ts";
import type { LoadedPlugin } from "./plugin/loader.ts";
import { withTimeLimit } from "./plugin/time-limit.ts";
import { Backends } from "./proxy/backends.ts";
import { ProxyDirection } from "./proxy/direction.ts";
import { Drain, type Drained } from "./proxy/drain.ts";
import type { ForwarderFactory } from "./proxy/forwarder.ts";
import { httpProxy3Forwarder } from "./proxy/http-proxy-3/forwarder.ts";
import { OpenConnections } from "./proxy/open-connections.ts";
import { inboundRouter, originName, outboundRouter } from "./proxy/route.ts";
import { Sweep } from "./proxy/sweep.ts";
import { TrustedPeers } from "./proxy/trusted-peers.ts";
import { wireForwarder } from "./proxy/wire/forwarder.ts";
import { accessLogFilter } from "./telemetry/access-log.ts";
import type { ConsoleOutput } from "./telemetry/console-exporter.ts";
import { startTelemetry, type Telemetry } from "./telemetry/start.ts";
import { VERSION } from "./version.ts";

const FORWARDERS: Record<ForwarderName, ForwarderFactory> = {
  wire: wireForwarder,
  "http-proxy-3": httpProxy3Forwarder,
};

/** How long a plugin may take to set up, in milliseconds: a start that hangs must say where. */
const SETUP_TIMEOUT_MS = 30_000;

/** What a sidecar is started with. */
export interface SidecarOptions {
  readonly loaded: LoadedConfig;
  readonly plugins: readonly LoadedPlugin[];
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
  /** What the admin API shows. */
  readonly view: SidecarView;
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
  const log = options.log;
  const started: (() => unknown)[] = [];
  const failures: unknown[] = [];
  let state: SidecarState = "starting";

  const telemetry = startTelemetry({ ...options, config: config.telemetry, service: config.service, version: VERSION });
  started.push(() => telemetry.shutdown());
  const backends = new Backends(config.backends);
  const sweep = new Sweep();
  const learning = new Learning();
  const sweepLearning = (nowMs: number): void => learning.sweep(nowMs);
  sweep.add(sweepLearning);
  started.push(() => sweep.remove(sweepLearning));
  const surroundings: Surroundings = {
    ...options,
    config,
    telemetry,
    backends,
    sweep,
    learning,
    ownPorts: new Map(),
    instance: randomBytes(4).toString("hex"),
    started,
    failures,
  };

  try {
    const inbound = config.inbound && (await buildInbound(config.inbound, surroundings));
    const outbound = config.outbound && (await buildOutbound(config.outbound, surroundings));
    if (failures.length > 0) throw startFailure(failures);
    const directions = [inbound, outbound].filter((direction) => direction !== undefined);
    backends.subscribe((backend) => {
      for (const direction of directions) {
        for (const connection of direction.connections) if (connection.backend === backend) connection.backendChanged();
      }
    });

    const drain = new Drain({
      inbound,
      outbound,
      config: config.drain,
      log,
      onBegin() {
        state = "draining";
      },
      async close() {
        await Promise.all(directions.map((direction) => direction.close()));
        sweep.remove(sweepLearning);
        await telemetry.shutdown();
        state = "stopped";
        // Last, so that /readyz and /metrics answer until the end.
        await Promise.all([admin?.close(), probes?.close()]);
      },
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
        for (const direction of directions) yield* direction.connections as Iterable<Connection>;
      },
      *pools() {
        for (const direction of directions) yield* direction.pools;
      },
      plugins: options.plugins.map(({ plugin, entry, values }) => ({
        name: plugin.name,
        description: plugin.description,
        use: entry.use,
        directions: entry.directions,
        onError: entry.onError,
        config: values,
      })),
      values: options.loaded.values,
      get logLevel() {
        return log.level as LogLevel;
      },
      set logLevel(level) {
        log.level = level;
      },
      drain: () => drain.begin(),
      backends,
      prometheusText: () => telemetry.prometheusText(),
    };

    // Not before every plugin is set up: what listens can serve.
    for (const direction of directions) await direction.start().catch((error: unknown) => failures.push(error));
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
    surroundings.ownPorts.set(admin.address.port, "admin");
    if (probes !== undefined) surroundings.ownPorts.set(probes.address.port, "admin");
    if (outbound !== undefined) surroundings.ownPorts.set(outbound.address.port, "outbound");

    state = "running";
    const addresses = {
      inbound: inbound?.address,
      outbound: outbound?.address,
      admin: admin.address,
      probes: probes?.address,
    };
    log.info({ addresses, version: VERSION, forwarder: config.forwarder }, `${config.service}: ready`);
    // Only now: loading the SDK takes longer than all of the above.
    void telemetry.load();

    return {
      addresses,
      view,
      drain: () => drain.release(),
      drained: drain.end,
      stop: () => drain.force(),
    };
  } catch (error) {
    for (const stop of started.reverse()) await stop();
    throw error;
  }
}

/** What both directions are built from. */
interface Surroundings extends SidecarOptions {
  readonly config: SidecarConfig;
  readonly telemetry: Telemetry;
  readonly backends: Backends;
  readonly sweep: Sweep;
  readonly learning: Learning;
  /** Ports of this sidecar that must not be reached through it; filled as they are bound. */
  readonly ownPorts: Map<number, "admin" | "outbound">;
  /** Tells this process from others of the same service, to recognise a loop. */
  readonly instance: string;
  /** What undoes each step of the start, in its order. */
  readonly started: (() => unknown)[];
  /** What could not be started so far. The start goes on, so that all of it is told at once. */
  readonly failures: unknown[];
}

async function buildInbound(inbound: InboundConfig, surroundings: Surroundings): Promise<ProxyDirection> {
  const router = inboundRouter(inbound.upstream, surroundings.backends);
  const tls = new Map<string, UpstreamTls>();
  addTls(tls, inbound.upstream);
  return await buildDirection("inbound", inbound, router, tls, surroundings);
}

async function buildOutbound(outbound: OutboundConfig, surroundings: Surroundings): Promise<ProxyDirection> {
  const router = outboundRouter(outbound, surroundings.backends);
  const tls = new Map<string, UpstreamTls>();
  for (const route of outbound.routes) addTls(tls, route.upstream);
  return await buildDirection("outbound", outbound, router, tls, surroundings);
}

async function buildDirection(
  name: Direction,
  settings: InboundConfig | OutboundConfig,
  router: ReturnType<typeof inboundRouter>,
  tls: ReadonlyMap<string, UpstreamTls>,
  surroundings: Surroundings,
): Promise<ProxyDirection> {
  const { config, sweep, started } = surroundings;
  const log = surroundings.log.child({ direction: name });
  const connections = new OpenConnections();
  const links = await setUpFilters(name, connections, surroundings);
  const chain = new Chain(links, (failure) => reportPluginFailure(log, failure));
  const pseudonym = `holdfast-${config.service.replace(/[^A-Za-z0-9_-]/g, "-")}-${name}-${surroundings.instance}`;
  const direction = new ProxyDirection({
    name,
    service: config.service,
    listen: settings.listen,
    listenerTls: settings.tls,
    http2: settings.http2,
    chain,
    router,
    forwarder: FORWARDERS[config.forwarder],
    limits: config.limits,
    forwarding: {
      trusted: name === "inbound" ? new TrustedPeers(config.forwarding.trusted) : undefined,
      // Outbound requests start at our own service: there is nobody before it to name.
      xForwarded: config.forwarding.xForwarded && name === "inbound",
      forwarded: config.forwarding.forwarded && name === "inbound",
      via: config.forwarding.via ? pseudonym : undefined,
    },
    connectTimeoutMs: settings.connectTimeoutMs,
    responseTimeoutMs: settings.responseTimeoutMs,
    tunnelIdleTimeoutMs: settings.tunnelIdleTimeoutMs,
    dnsRefreshMs: settings.dnsRefreshMs,
    lookup: surroundings.lookup,
    ownPorts: surroundings.ownPorts,
    tls,
    sweep,
    learning: surroundings.learning,
    log,
    connections,
  });
  started.push(async () => {
    direction.cut();
    await direction.close();
  });
  return direction;
}

/** Telemetry first, so that it sees everything that the plugins do; then the plugins in their order. */
async function setUpFilters(
  direction: Direction,
  connections: OpenConnections,
  { config, plugins, telemetry, log, failures }: Surroundings,
): Promise<ChainLink[]> {
  const links: ChainLink[] = telemetry
    .filters(direction)
    .map(({ name, filter }) => ({ name, filter, onError: "continue", requestTimeoutMs: 0 }));
  if (config.log.access) {
    const filter = accessLogFilter(log.child({ direction, part: "access" }));
    links.push({ name: "access-log", filter, onError: "continue", requestTimeoutMs: 0 });
  }
  for (const { plugin, entry, config: pluginConfig } of plugins) {
    if (!entry.directions.includes(direction)) continue;
    const context = {
      config: pluginConfig,
      direction,
      service: config.service,
      log: log.child({ direction, plugin: plugin.name }),
      connections,
      countConnections: (side: Side) => connections.count(side),
    };
    try {
      const filter = await setUp(plugin, context);
      links.push({ name: plugin.name, filter, onError: entry.onError, requestTimeoutMs: entry.requestTimeoutMs });
    } catch (error) {
      failures.push(error);
    }
  }
  return links;
}

async function setUp(plugin: Plugin<unknown>, context: PluginContext<unknown>): Promise<Filter> {
  let filter: unknown;
  try {
    filter = await withTimeLimit(
      Promise.resolve(plugin.setup(context)),
      SETUP_TIMEOUT_MS,
      () => new Error(`setup took over ${SETUP_TIMEOUT_MS / 1000} s`),
    );
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).replaceAll(/\s*\n\s*/g, " ");
    throw new HoldfastError("HF_CONFIG", `plugin ${plugin.name} cannot start ${context.direction}: ${message}`, {
      cause: error,
    });
  }
  if (typeof filter === "object" && filter !== null) return filter;
  throw new HoldfastError(
    "HF_CONFIG",
    `plugin ${plugin.name} cannot start ${context.direction}: setup must return a filter, an object of hooks`,
  );
}

/** One failure with a line for each. */
function startFailure(failures: readonly unknown[]): HoldfastError {
  const lines = failures.map((failure) => (failure instanceof Error ? failure.message : String(failure)));
  return new HoldfastError("HF_CONFIG", lines.join("\n"), { cause: failures[0] });
}

function addTls(tls: Map<string, UpstreamTls>, upstream: InboundConfig["upstream"]): void {
  if (upstream.tls !== undefined) tls.set(upstream.backend ?? originName(upstream.origin), upstream.tls);
}

function reportPluginFailure(log: PinoLogger, failure: PluginFailure): void {
  const { plugin, hook, error, onError } = failure;
  log.error(
    { plugin, hook, err: error, connection: failure.connection?.id, exchange: failure.exchange?.id },
    `plugin ${plugin} failed in ${hook}; ${onError === "fail" ? "the exchange fails" : "going on without it"}`,
  );
}
