/**
 * `npm run test:large -- [--mib 2048] [--forwarder wire]`: bodies of 2 GiB each way, with their length and chunked,
 * through both forwarders, with telemetry and without. Exit code 1 when one of them arrives changed, or the sidecar
 * takes {@link mostBytes} or more.
 */
import { parseArgs } from "node:util";
import type { ForwarderName } from "../../src/config/sidecar-config.ts";
import { FORWARDERS } from "../support/peers.ts";
import { build, type Carried, mostBytes, type Run, run } from "./bodies.ts";

const { values } = parseArgs({
  options: { mib: { type: "string", default: "2048" }, forwarder: { type: "string" } },
});
const bytes = Number(values.mib) * 1024 * 1024;
const forwarders = FORWARDERS.filter((name) => values.forwarder === undefined || name === values.forwarder);
const main = build();
let isRight = true;
const mb = (of: number): string => `${(of / 1e6).toFixed(1)} MB`;

for (const forwarder of forwarders) {
  for (const telemetry of [false, true]) show(forwarder, telemetry, await run({ main, forwarder, telemetry, bytes }));
}
process.exitCode = isRight ? 0 : 1;

function show(forwarder: ForwarderName, telemetry: boolean, { idleBytes, carried }: Run): void {
  process.stdout.write(`${forwarder}, telemetry ${telemetry ? "on" : "off"}: ${mb(idleBytes)} before\n`);
  for (const each of carried) {
    const faults = faultsOf(each, mostBytes(forwarder, telemetry));
    if (faults.length > 0) isRight = false;
    const { way, framing, ms, peakBytes, mostUnreadBytes } = each;
    const facts = `${(ms / 1000).toFixed(1)} s, at most ${mb(peakBytes)}, at most ${mb(mostUnreadBytes)} on the way`;
    process.stdout.write(`  ${way.padEnd(8)} ${framing.padEnd(7)} ${facts}${faults.map((f) => `; ${f}`).join("")}\n`);
  }
}

function faultsOf({ sent, arrived, peakBytes }: Carried, most: number): string[] {
  return [
    ...(sent === arrived ? [] : ["WRONG: other bytes arrived than were sent"]),
    ...(peakBytes < most ? [] : [`WRONG: ${mb(most)} or more`]),
  ];
}
