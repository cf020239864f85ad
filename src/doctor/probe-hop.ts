/**
 * A probed peer as the last hop of a chain.
 *
 * @module
 */
import type { ProbeResult } from "../probe/result.ts";
import type { HttpHop } from "./hop.ts";
import { downstreamOf } from "./preset.ts";

/** What a probe found out, as a hop. What it did not measure is unknown. */
export function probedHop({ url, host, keepAlive, hint, idle, requests }: ProbeResult): HttpHop {
  const measured = idle.afterRequest;
  const isOpen = measured !== null && measured.shortestMs === null;
  return {
    kind: "http",
    // Results of before there was `--host` do not have it.
    name: (host ?? undefined) === undefined ? url : `${url} as ${host}`,
    product: "probed",
    downstream: downstreamOf({
      keepAlive: keepAlive.http11 === null || keepAlive.http11 === "kept",
      idleMs: measured === null ? undefined : (measured.shortestMs ?? measured.waitedMs),
      isAtLeast: isOpen,
      announcedMs: hint?.timeoutMs ?? undefined,
      announcesIfAsked: hint?.onlyWhenAsked === true,
      maxRequests:
        requests === null || requests.end === "not reached" || requests.end === "refused"
          ? Number.POSITIVE_INFINITY
          : requests.answered,
      announcesEnd: requests?.end !== "unannounced",
    }),
    upstream: undefined,
    drainMs: undefined,
    deregistrationMs: undefined,
    rttMs: undefined,
    tls: url.startsWith("https:"),
    settings: {
      downstreamIdle: "idle timeout: {d}",
      downstreamMaxRequests: "requests per connection: {n}",
      downstreamKeepAlive: "keep-alive: on",
    },
    symptom: undefined,
    measured: undefined,
  };
}
