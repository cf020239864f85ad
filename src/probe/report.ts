/**
 * The result of a probe as text.
 *
 * @module
 */
import type {
  IdleMeasured,
  Kept,
  ProbeResult,
  RequestsMeasured,
  SetupMeasured,
  SidecarLines,
  Truth,
} from "./result.ts";
import { isOnlyWatched } from "./suggest.ts";

/** Closes that are this near to each other are one limit. */
const ONE_LIMIT_MS = 50;

/** Lines about one peer. */
export function reportLines(result: ProbeResult): string[] {
  const { url, host, method, addresses, status, version, keepAlive, requests, setup, notMeasured, interrupted } =
    result;
  const name = host === null ? url : `${url} as ${host}`;
  const head = status === null ? name : `${name}  ${method} ${status}, HTTP/${version}, ${addresses.join(" ")}`;
  const rows: [string, string][] = [];
  if (status !== null) {
    const special = specialText(status);
    if (special !== undefined) rows.push(["note", special]);
    rows.push(["keep-alive", keptText(keepAlive.http11, true)]);
    rows.push(["  when asked to close", keptText(keepAlive.http11Close, false)]);
    rows.push(["  HTTP/1.0", keptText(keepAlive.http10, false)]);
    rows.push(["  HTTP/1.0 keep-alive", keptText(keepAlive.http10KeepAlive, true)]);
    if (result.idle.afterRequest !== null) rows.push(["idle after a request", idleText(result.idle.afterRequest)]);
    if (result.idle.beforeRequest !== null) rows.push(["idle before a request", idleText(result.idle.beforeRequest)]);
    rows.push(["advertised", advertisedText(result)]);
    if (requests !== null) rows.push(["requests per connection", requestsText(requests)]);
    if (setup !== null) rows.push(["opening a connection", openingText(setup)]);
    if (setup?.savedMs != null)
      rows.push(["a reuse saves", `${ms(setup.savedMs)} of ${ms(setup.savedMs + (setup.reusedFirstByteMs ?? 0))}`]);
  }
  const why = new Set(notMeasured.map(({ what, why }) => `  not measured: ${what}: ${why}`));
  return [
    head,
    ...rows.map(([name, text]) => `  ${name.padEnd(25)}${text}`),
    ...why,
    ...(interrupted ? ["  interrupted: this is what was known by then"] : []),
  ];
}

/** Lines with what to write into sidecar.json. */
export function suggestionLines(lines: SidecarLines, results: readonly ProbeResult[]): string[] {
  const watched = results.filter(isOnlyWatched).map(({ url }) => url);
  const notes = watched.length === 0 ? [] : [`keepaliveTime is only how long was waited: ${watched.join(", ")}`, ""];
  return [...notes, "sidecar.json:", JSON.stringify(lines, undefined, 2)];
}

/** What to keep in mind of a status: what is measured are connections that carried such a response. */
function specialText(status: number): string | undefined {
  if (status === 429) return "it asks for fewer requests: give a lower --rate";
  if (status >= 400) return "an error is treated apart by some peers: better measure a URL that answers 200";
  return status >= 300 ? "a redirect, which is not followed" : undefined;
}

function keptText(kept: Kept | null, isExpected: boolean): string {
  switch (kept) {
    case null:
      return "not measured";
    case "kept":
      return isExpected ? "kept" : "kept, although it should be closed";
    case "closed":
      return "closed after the response";
    case "broken":
      return "closed after the response, although it says that it stays";
  }
}

function idleText({ shortestMs, longestMs, waitedMs, stillAnswers, connections }: IdleMeasured): string {
  const closed = connections.filter(({ end }) => end !== "open");
  const of = `${closed.length} of ${connections.length}`;
  if (shortestMs === null || longestMs === null) {
    const still =
      stillAnswers === null
        ? ""
        : stillAnswers
          ? ", and still answers"
          : ", but does not answer any more: something on the way forgot the connection";
    return `open after ${seconds(waitedMs)}${still}`;
  }
  const ends = [...new Set(closed.map(({ end }) => (end === "fin" ? "FIN" : end === "reset" ? "RST" : "error")))];
  const said = connections.find(({ said }) => said !== null)?.said;
  const range =
    longestMs - shortestMs <= ONE_LIMIT_MS
      ? `closed after ${seconds(shortestMs)}`
      : `closed after ${seconds(shortestMs)} to ${seconds(longestMs)}`;
  return `${range} by ${ends.join(" and ")} (${of} connections)${said === undefined ? "" : `, after "${said}"`}`;
}

function advertisedText({ hint, hintTruth }: ProbeResult): string {
  if (hint === null) return "nothing";
  const parts: string[] = [];
  if (hint.timeoutMs !== null) parts.push(`timeout=${hint.timeoutMs / 1000}: ${truthText(hintTruth.timeout)}`);
  if (hint.maxRequests !== null) parts.push(`max=${hint.maxRequests}: ${truthText(hintTruth.maxRequests)}`);
  if (parts.length === 0) return "nothing";
  return parts.join("; ") + (hint.onlyWhenAsked ? " (only to requests with Connection: keep-alive)" : "");
}

function truthText(truth: Truth): string {
  switch (truth) {
    case "true":
      return "that is true";
    case "closes early":
      return "not true, it closes earlier";
    case "closes late":
      return "it closes later, which does no harm";
    case "unknown":
      return "not seen to be true or not";
    case "none":
      return "nothing advertised";
  }
}

function requestsText({ answered, end }: RequestsMeasured): string {
  switch (end) {
    case "announced":
      return `${answered}, the last with Connection: close`;
    case "unannounced":
      return `${answered}, then closed without a word`;
    case "not reached":
      return `at least ${answered}`;
    case "refused":
      return `at least ${answered}; stopped, since the peer answered 429 or 503`;
  }
}

function openingText({ dnsMs, tcpMs, tlsMs, tlsVersion, tlsResumes, tlsResumedMs }: SetupMeasured): string {
  const parts = [...(dnsMs === null ? [] : [`DNS ${ms(dnsMs)}`]), `TCP ${ms(tcpMs)}`];
  if (tlsMs !== null) parts.push(`${tlsVersion ?? "TLS"} ${ms(tlsMs)}`);
  if (tlsResumes === true && tlsResumedMs !== null) parts.push(`resumed ${ms(tlsResumedMs)}`);
  if (tlsResumes === false) parts.push("sessions are not resumed");
  return parts.join(", ");
}

function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 2 : 1)} ms`;
}

function seconds(value: number): string {
  return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
}
