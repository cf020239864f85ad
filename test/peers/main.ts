/**
 * Measures every real server, waiting for each limit however long it is, and writes the table of docs/peers.md. Takes
 * about six minutes, nearly all of it waiting.
 *
 *     npm run peers
 *
 * @module
 */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { IdleMeasured, ProbeResult, RequestsMeasured, Truth } from "../../src/probe/result.ts";
import { environment, needs } from "../interop/programs.ts";
import { PEERS } from "./all.ts";
import { measured } from "./measure.ts";
import { type PeerSetting, type RealPeer, startPeer } from "./real-peer.ts";

const PAGE = fileURLToPath(new URL("../../docs/peers.md", import.meta.url));
const BEGIN = "<!-- peers -->";
const END = "<!-- /peers -->";
/** Above every limit on requests that is a default here. */
const MOST_REQUESTS = 1100;
/** Connections and requests a second for each server: all are measured at the same time. */
const RATE = 50;
/** How long is waited for what has no limit. */
const NO_LIMIT_MS = 90_000;
/** How much longer than documented is waited: Java looks every 10 s. */
const LONGER_MS = 15_000;

interface Row {
  readonly peer: RealPeer;
  readonly setting: PeerSetting;
  readonly result: ProbeResult;
}

const ends: (() => unknown)[] = [];
const cleanup = { after: (end: () => unknown) => void ends.unshift(end) };
try {
  const there = PEERS.filter(({ name, programs }) => {
    const { skip } = needs(...programs);
    if (skip !== false) process.stderr.write(`${name}: ${skip}\n`);
    return skip === false;
  });
  if (there.length < PEERS.length) throw new Error(".ci/run installs what is missing; the page was not changed");
  const rows = await Promise.all(there.flatMap((peer) => peer.settings.map((setting) => measure(peer, setting))));
  const page = readFileSync(PAGE, "utf8");
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (from < 0 || to < 0) throw new Error(`${PAGE} has no ${BEGIN} … ${END}`);
  writeFileSync(PAGE, `${page.slice(0, from + BEGIN.length)}\n${table(rows)}\n${versions(there)}${page.slice(to)}`);
} finally {
  for (const end of ends) await end();
}

async function measure(peer: RealPeer, setting: PeerSetting): Promise<Row> {
  const url = await startPeer(cleanup, setting);
  const { idleMs } = setting.documented;
  const maxWaitMs = Number.isFinite(idleMs) ? idleMs * 1.1 + LONGER_MS : NO_LIMIT_MS;
  const result = await measured(url, maxWaitMs, MOST_REQUESTS, RATE);
  process.stderr.write(`${peer.name}, ${setting.name}: measured\n`);
  return { peer, setting, result };
}

function table(rows: readonly Row[]): string {
  const head = [
    "| Server | Settings | Idle, documented | Idle, measured | Before a request | It says | Which is | Requests, documented | Requests, measured |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ];
  return `${[...head, ...rows.map(row)].join("\n")}\n`;
}

function row({ peer, setting: { name, documented }, result }: Row): string {
  const { idle, hint, hintTruth, requests } = result;
  const says = [
    ...(hint?.timeoutMs == null ? [] : [`timeout=${hint.timeoutMs / 1000}`]),
    ...(hint?.maxRequests == null ? [] : [`max=${hint.maxRequests}`]),
    ...(hint?.onlyWhenAsked === true ? ["if asked"] : []),
  ];
  const truths = [hintTruth.timeout, hintTruth.maxRequests].filter((truth) => truth !== "none");
  const cells = [
    peer.name,
    /^defaults|^Debian/.test(name) ? name : `\`${name}\``,
    Number.isFinite(documented.idleMs) ? seconds(documented.idleMs) : "no limit",
    idleText(idle.afterRequest),
    idleText(idle.beforeRequest),
    says.length === 0 ? "nothing" : says.join(", "),
    [...new Set(truths)].map(truthText).join("; "),
    Number.isFinite(documented.requests) ? String(documented.requests) : "no limit",
    requestsText(requests),
  ];
  return `| ${cells.join(" | ")} |`;
}

function idleText(idle: IdleMeasured | null): string {
  if (idle === null) return "not measured";
  const { shortestMs, longestMs, waitedMs, connections } = idle;
  if (shortestMs === null || longestMs === null) return `more than ${seconds(Math.floor(waitedMs / 1000) * 1000)}`;
  const by = connections.some(({ end }) => end === "reset") ? " (RST)" : "";
  const said = connections.find(({ said }) => said !== null)?.said?.match(/ (\d{3})/)?.[1];
  const range = longestMs - shortestMs < 50 ? seconds(shortestMs) : `${seconds(shortestMs)} to ${seconds(longestMs)}`;
  return `${range}${by}${said === undefined ? "" : ` after a ${said}`}`;
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(ms < 100_000 ? 2 : 1))} s`;
}

function truthText(truth: Truth): string {
  return truth === "closes early" ? "**not true**" : truth === "closes late" ? "less than it keeps" : truth;
}

function requestsText(requests: RequestsMeasured | null): string {
  if (requests === null) return "not measured";
  const { answered, end } = requests;
  if (end === "not reached") return `more than ${answered}`;
  return end === "announced" ? `${answered}, announced` : `${answered}, ${end}`;
}

/** What each server says that it is. Some say it on standard error. */
function versions(peers: readonly RealPeer[]): string {
  const found = peers.map(({ name, version: [program, ...args] }) => {
    const { stdout, stderr } = spawnSync(program, args, { env: environment(), encoding: "utf8" });
    return `${name} ${/\d+(?:\.\d+)+/.exec(stdout + stderr)?.[0] ?? "of unknown version"}`;
  });
  const kernel = execFileSync("uname", ["-sm"], { encoding: "utf8" }).trim();
  return `Measured with ${found.join(", ")}, on ${kernel}.\n`;
}
