/**
 * Limits on requests and age that end a connection without a word.
 *
 * @module
 */
import { type Fix, finding, fix, type Judgement, type Rule, SOUND } from "./finding.ts";
import { isKept, type Link } from "./hop.ts";
import { shown } from "./shown.ts";

const NO_WORD = "a reset or an empty response for the request that is just being sent; POSTs are not repeated";

/** What any peer can do, whatever its limit. */
function announce(hop: string): Fix {
  return { hop, setting: "say Connection: close in the last response of a connection" };
}

function judgeRequests(link: Link): Judgement {
  const { before, after, upstream, downstream } = link;
  if (!isKept(link) || upstream === undefined || downstream === undefined || downstream.announcesEnd) return SOUND;
  if (upstream.maxRequests <= downstream.maxRequests) return SOUND;
  const sends = upstream.maxRequests === Number.POSITIVE_INFINITY ? "any number of" : String(upstream.maxRequests);
  return finding(link, {
    rule: "max-requests",
    wrong: `${before.name} sends ${sends} requests on a connection, but ${after.name} closes it after ${downstream.maxRequests} without saying so`,
    symptom: before.symptom ?? NO_WORD,
    often: `up to one in ${downstream.maxRequests} requests of a busy connection`,
    fixes: [...fix(before, "upstreamMaxRequests", downstream.maxRequests), announce(after.name)],
  });
}

function judgeAge(link: Link): Judgement {
  const { before, after, upstream, downstream } = link;
  if (!isKept(link) || upstream === undefined || downstream === undefined) return SOUND;
  if (downstream.announcesAge ?? downstream.announcesEnd) return SOUND;
  if (downstream.maxAgeMs === Number.POSITIVE_INFINITY || upstream.maxAgeMs < downstream.maxAgeMs) return SOUND;
  return finding(link, {
    rule: "max-age",
    wrong: `${before.name} uses a connection ${upstream.maxAgeMs === Number.POSITIVE_INFINITY ? "at any age" : `until it is ${shown(upstream.maxAgeMs)} old`}, but ${after.name} closes it at ${shown(downstream.maxAgeMs)} without saying so`,
    symptom: before.symptom ?? NO_WORD,
    often: `up to once in ${shown(downstream.maxAgeMs)} for each busy connection`,
    fixes: [...fix(before, "upstreamMaxAge", downstream.maxAgeMs * 0.9), announce(after.name)],
  });
}

/** Requests per connection. */
export const maxRequests: Rule = {
  name: "max-requests",
  doc: "A limit on requests per connection is announced by `Connection: close` on the last response, or the sender has a smaller one.",
  judge: judgeRequests,
};

/** Age. */
export const maxAge: Rule = {
  name: "max-age",
  doc: "A limit on the age of connections is announced by `Connection: close`, or the sender has a smaller one.",
  judge: judgeAge,
};
