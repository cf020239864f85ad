/**
 * What keep-alive is worth over a slow link, with real sockets and real round-trip times: `npm run lab`. docs/lab.md
 * says what is measured, and has the results.
 *
 * @module
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { generate } from "selfsigned";
import { describeMachine } from "../machine.ts";
import { fleetChart, pagesChart } from "./charts.ts";
import { type LabResult, labReport, withReport } from "./document.ts";
import { FLEET, FLEET_CASES, type FleetResult, QUICK_FLEET, restartFleet } from "./fleet.ts";
import { ORIGIN_NAME, type Place } from "./hosts.ts";
import { crossNat, NAT_TIMES, type NatResult, QUICK_NAT_TIMES } from "./nat.ts";
import { ADDRESSES, whyNotHere } from "./network.ts";
import { loadPages, type PageResult, type PagesOptions, WAYS, type Way } from "./pages.ts";

const DOCS = path.join(import.meta.dirname, "..", "..", "docs");

const USAGE = `npm run lab -- [options]

  --quick   a short form that checks what holds on any machine: connections are counted, and nothing is faster than
            its round trips; writes nothing

Writes docs/lab.md and its charts. Needs root on Linux. Takes about 6 minutes.
`;

/** Round-trip times, and how often a page is loaded at each: at short ones, other work on the machine shows more. */
const LINKS = { short: { rttMs: 30, times: 3 }, middle: { rttMs: 100, times: 3 }, long: { rttMs: 600, times: 1 } };
const QUICK_LINK = { rttMs: 20, times: 1 };
const SCHEMES = ["http", "https"] as const;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** @returns the exit code: 1 when something came out that cannot be */
async function main(signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({
    options: { quick: { type: "boolean", default: false }, help: { type: "boolean", default: false } },
  });
  if (values.help) {
    say(USAGE);
    return 0;
  }
  const reason = await whyNotHere();
  if (reason !== undefined) throw new Error(reason);

  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-lab-"));
  const problems: string[] = [];
  const problem = (text: string) => {
    problems.push(text);
    say(`PROBLEM: ${text}`);
  };
  try {
    const place: Place = { folder, ca: await certify(folder) };
    const result = await measure(place, values.quick, signal, problem);
    if (!values.quick && problems.length === 0) write(result);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (problems.length > 0) say(`\n${problems.length} problems: see PROBLEM above`);
  return problems.length > 0 ? 1 : 0;
}

async function measure(
  place: Place,
  quick: boolean,
  signal: AbortSignal,
  problem: (text: string) => void,
): Promise<LabResult> {
  const pages: PageResult[] = [];
  const over = ({ rttMs, times }: typeof QUICK_LINK, parts: Partial<Pick<PagesOptions, "schemes" | "ways">> = {}) =>
    loadPages(place, {
      rttMs,
      times,
      schemes: SCHEMES,
      ways: WAYS,
      ...parts,
      resources: quick ? [12] : [3, 30],
      atOnce: [1, 6],
      exact: !quick,
      signal,
      problem,
      done(page) {
        const { scheme, way, resources, atOnce, measuredMs, expectedMs } = page;
        const what = `RTT ${rttMs} ms, ${way}, ${scheme}, 1 + ${resources}, ${atOnce} at once`;
        say(`${what}: ${measuredMs.toFixed(1)} ms; round trips ${expectedMs} ms; ${page.handshakes} connections`);
      },
    });

  const loadAll = async () => {
    if (quick) {
      pages.push(...(await over(QUICK_LINK)));
      return;
    }
    const bySchemes = (link: typeof QUICK_LINK, ...ways: readonly (readonly Way[])[]) =>
      SCHEMES.flatMap((scheme) => ways.map((each) => over(link, { schemes: [scheme], ways: each })));
    // Each part has a link of its own. Nearly all that they do is to wait, the more so the longer the way is.
    pages.push(...(await Promise.all(bySchemes(LINKS.short, WAYS))).flat());
    const [direct, ...others] = WAYS;
    const parts = [...bySchemes(LINKS.middle, WAYS), ...bySchemes(LINKS.long, [direct], others)];
    pages.push(...(await Promise.all(parts)).flat());
  };

  const natTimes = quick ? QUICK_NAT_TIMES : NAT_TIMES;
  let nat: readonly NatResult[] = [];
  const crossAll = async () => {
    nat = await crossNat(place, natTimes, signal, problem);
    for (const { name, secondMs, handshakes } of nat) {
      const took = secondMs === undefined ? "no answer" : `${secondMs.toFixed(1)} ms`;
      say(`NAT, ${name}: ${took}; ${handshakes} connections`);
    }
  };

  const fleetSize = quick ? QUICK_FLEET : FLEET;
  const fleet: FleetResult[] = [];
  const restartAll = async () => {
    for (const each of FLEET_CASES) {
      // Too long for the short form.
      if (quick && each.age !== undefined) continue;
      signal.throwIfAborted();
      const restarted = await restartFleet(place, fleetSize, each, signal, problem);
      const { name, handshakesAtMs, mostInOneSecond, failures } = restarted;
      const failed = Object.keys(failures).length === 0 ? "" : `; failed: ${JSON.stringify(failures)}`;
      say(`Fleet, ${name}: ${handshakesAtMs.length} handshakes, most in one second ${mostInOneSecond}${failed}`);
      fleet.push(restarted);
    }
  };

  // One after the other where time is measured.
  if (quick) await Promise.all([loadAll(), crossAll(), restartAll()]);
  else for (const stage of [loadAll, crossAll, restartAll]) await stage();

  const { cpu, cores, kernel, node } = describeMachine();
  const machine = `${cpu}, ${cores} cores; ${kernel}, Node.js ${node}`;
  return { day: new Date().toISOString().slice(0, 10), machine, pages, natTimes, nat, fleetSize, fleet };
}

/** Makes a certificate that vouches for itself. Returns it. */
async function certify(folder: string): Promise<string> {
  const { cert, private: key } = await generate([{ name: "commonName", value: ORIGIN_NAME }], {
    keyType: "ec",
    algorithm: "sha256",
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      {
        name: "subjectAltName",
        altNames: [
          { type: 2, value: ORIGIN_NAME },
          { type: 7, ip: ADDRESSES.far },
        ],
      },
    ],
  });
  for (const name of ["cert.pem", "ca.pem"]) writeFileSync(path.join(folder, name), cert);
  writeFileSync(path.join(folder, "key.pem"), key);
  return cert;
}

function write(result: LabResult): void {
  const page = path.join(DOCS, "lab.md");
  writeFileSync(page, withReport(readFileSync(page, "utf8"), labReport(result)));
  writeFileSync(path.join(DOCS, "lab-pages.svg"), pagesChart(result.pages));
  writeFileSync(path.join(DOCS, "lab-fleet.svg"), fleetChart(result.fleet, result.fleetSize.windowMs));
  say(`\nWritten to ${page}`);
}

const stopped = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // A second signal does not wait. The exit handlers of processes.ts and network.ts end what is left.
  process.once(signal, () => {
    stopped.abort(new Error(`stopped by ${signal}`));
    process.once(signal, () => process.exit(130));
  });
}
const code = await main(stopped.signal).catch((error: unknown) => {
  const reason = stopped.signal.aborted ? stopped.signal.reason : error;
  process.stderr.write(`lab: ${reason instanceof Error ? reason.message : String(reason)}\n`);
  return 1;
});
// What a failure left running would keep us.
process.exit(code);
