/**
 * `holdfast demo`: two services with a sidecar each, traffic with pauses, and what became of the connections.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type SidecarOutput, type SidecarProcess, startService, startSidecar } from "./demo/children.ts";
import { inventoryConfig, ordersConfig } from "./demo/configuration.ts";
import { bold, LiveBlock, phaseLine, progress } from "./demo/display.ts";
import { type Measured, measure } from "./demo/measure.ts";
import { installation, next, table, verdict } from "./demo/report.ts";
import {
  agentCall,
  type Call,
  emptyTally,
  failed,
  type Phase,
  pausesIn,
  runCaller,
  type Tally,
} from "./demo/traffic.ts";
import type { ExitCode } from "./main.ts";

/** Callers through the sidecars, and as many again without them. */
const CALLERS = 8;
/** Trace lines shown at a time. */
const SHOWN_TRACES = 4;

/** What the demo runs with. */
export interface DemoOptions {
  /** How long the traffic goes on. */
  readonly seconds: number;
}

/**
 * Runs the demo: real services, real sidecars (`holdfast run`), real connections on the loopback interface. Ctrl-C
 * ends it early with what was measured so far; a second one ends it at once.
 *
 * @returns 0, or 1 when a call through the sidecars failed
 */
export async function demo({ seconds }: DemoOptions): Promise<ExitCode> {
  const stop = new AbortController();
  const onSignal = (): void => {
    // The processes of the demo end with this one.
    if (stop.signal.aborted) process.exit(1);
    stop.abort();
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => {
    for (const signal of signals) process.off(signal, onSignal);
  });
  const printed: Printed = { traces: [], problems: [] };
  const setting = await setUp(cleanup, {
    trace: (sidecar, line) => void printed.traces.push(`${sidecar.padEnd(9)}  ${line}`),
    problem: (sidecar, message) => void printed.problems.push(`${sidecar.padEnd(9)}  ${message}`),
  });
  return await run(setting, printed, seconds, stop.signal);
}

/** Everything that runs. */
interface Setting {
  readonly orders: SidecarProcess;
  readonly inventory: SidecarProcess;
  /** The service `inventory` without its sidecar. */
  readonly plainInventory: string;
}

/** What the sidecars printed so far. */
interface Printed {
  readonly traces: string[];
  /** Warnings and errors of their logs. */
  readonly problems: string[];
}

/** Starts services and sidecars; `cleanup` stops them in reverse order. */
async function setUp(cleanup: AsyncDisposableStack, output: SidecarOutput): Promise<Setting> {
  const folder = await mkdtemp(path.join(tmpdir(), "holdfast-demo-"));
  cleanup.defer(() => rm(folder, { recursive: true, force: true }));
  const sidecar = async (name: string, config: object): Promise<SidecarProcess> => {
    const file = path.join(folder, `${name}.json`);
    await writeFile(file, JSON.stringify(config, undefined, 2));
    const started = await startSidecar(name, file, output);
    cleanup.defer(() => started.stop());
    return started;
  };

  const inventoryService = await startService("inventory");
  cleanup.defer(() => inventoryService.stop());
  const ordersService = await startService("orders");
  cleanup.defer(() => ordersService.stop());
  const inventory = await sidecar("inventory", inventoryConfig(inventoryService.port));
  const orders = await sidecar("orders", ordersConfig(ordersService.port, inventory.inbound));
  ordersService.useProxy(orders.outbound!);
  return { orders, inventory, plainInventory: `http://127.0.0.1:${inventoryService.port}` };
}

async function run(
  setting: Setting,
  { traces, problems }: Printed,
  seconds: number,
  signal: AbortSignal,
): Promise<ExitCode> {
  const { orders, inventory } = setting;
  print(
    bold("callers → sidecar → orders → sidecar → sidecar → inventory", process.stdout),
    ...[orders, inventory].map(
      ({ name, admin }) => `  while it runs, the sidecar of ${name}: curl ${admin}/connections`,
    ),
    "",
  );

  const startedAtMs = performance.now();
  let phase: Phase = { kind: "calls" };
  let longestPauseMs = 0;
  /** How many trace lines there were at the end of the first pause. */
  let beforeFirstCall: number | undefined;
  const live = process.stdout.isTTY
    ? new LiveBlock(process.stdout, async () => [
        progress(performance.now() - startedAtMs, seconds, phase),
        "",
        ...table(await measureAll(setting)),
        "",
        ...traces.slice(-SHOWN_TRACES),
      ])
    : undefined;
  const onPhase = (next: Phase): void => {
    if (phase.kind === "pause" && next.kind === "calls") {
      longestPauseMs = Math.max(longestPauseMs, phase.pauseMs);
      beforeFirstCall ??= traces.length;
    }
    phase = next;
    if (live === undefined) print(phaseLine(performance.now() - startedAtMs, phase));
  };

  const calls = emptyTally();
  const plainCalls = emptyTally();
  const pausesMs = pausesIn(seconds);
  const endAtMs = startedAtMs + seconds * 1000;
  const callers = (origin: string, tally: Tally, onPhase: (phase: Phase) => void): Promise<void>[] =>
    Array.from({ length: CALLERS }, (_, index) => {
      const call: Call = agentCall(origin);
      return runCaller({ call, tally, index, pausesMs, endAtMs, signal, onPhase: index === 0 ? onPhase : () => {} });
    });
  await Promise.all([
    ...callers(orders.inbound, calls, onPhase),
    ...callers(setting.plainInventory, plainCalls, () => {}),
  ]);
  live?.end();

  const measured = await measureAll(setting);
  if (live === undefined) print("");
  print(...table(measured), "", ...verdict({ measured, calls, plainCalls, longestPauseMs }), "");
  printTraces(traces, beforeFirstCall);
  if (problems.length > 0) print("Warnings", ...problems.map((line) => `  ${line}`), "");
  print(...next(installation()));
  return failed(calls) === 0 ? 0 : 1;
}

async function measureAll({ orders, inventory }: Setting): Promise<Measured[]> {
  return [
    ...(await measure(orders.name, orders.admin, ["inbound", "outbound"])),
    ...(await measure(inventory.name, inventory.admin, ["inbound"])),
  ];
}

/** A few trace lines: those around the end of the first pause, else the last ones. */
function printTraces(traces: readonly string[], beforeFirstCall: number | undefined): void {
  // They are written by processes of their own, and OTEL_TRACES_EXPORTER may have sent them elsewhere.
  if (traces.length === 0) return;
  const from = beforeFirstCall === undefined ? -SHOWN_TRACES : Math.max(0, beforeFirstCall - SHOWN_TRACES / 2);
  const shown = traces.slice(from).slice(0, SHOWN_TRACES);
  print(
    beforeFirstCall === undefined ? "Traces" : "Traces before and after the first pause",
    ...shown.map((line) => `  ${line}`),
    "",
  );
}

function print(...lines: string[]): void {
  process.stdout.write(`${lines.join("\n")}\n`);
}
