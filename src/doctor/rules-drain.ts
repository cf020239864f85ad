/**
 * A hop that ends must go on for as long as the load balancer lets it.
 *
 * @module
 */
import { finding, fix, type Judgement, type Rule, SOUND } from "./finding.ts";
import type { Link } from "./hop.ts";
import { shown } from "./shown.ts";

function judge(link: Link): Judgement {
  const { before, after } = link;
  const { deregistrationMs } = before;
  const { drainMs } = after;
  if (deregistrationMs === undefined || drainMs === undefined || drainMs >= deregistrationMs) return SOUND;
  return finding(link, {
    rule: "drain-below-deregistration",
    wrong: `${after.name} cuts what is in flight ${shown(drainMs)} after it is told to end, but ${before.name} lets requests to it go on for ${shown(deregistrationMs)}`,
    symptom: `502 or 504 at each deployment, for requests that take longer than ${shown(drainMs)}`,
    often: "each time an instance leaves while such a request runs",
    fixes: [...fix(after, "drain", deregistrationMs), ...fix(before, "deregistration", drainMs)],
  });
}

/** The rule. */
export const drainBelowDeregistration: Rule = {
  name: "drain-below-deregistration",
  doc: "A hop that is told to end finishes requests for at least as long as the load balancer before it lets them go on.",
  judge,
};
