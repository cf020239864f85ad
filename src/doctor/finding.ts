/**
 * What the doctor finds.
 *
 * @module
 */
import { formatDuration } from "../config/units.ts";
import type { Device, HttpHop, Link, Setting } from "./hop.ts";

/** Name of a rule. */
export type RuleName =
  | "idle-order"
  | "path-forgets"
  | "tcp-keepalive-too-late"
  | "max-requests"
  | "max-age"
  | "keep-alive-off"
  | "drain-below-deregistration";

/** One thing that is wrong. */
export interface Finding {
  readonly rule: RuleName;
  /** Which link of the chain, from 0. */
  readonly link: number;
  /** The hops at its two ends. */
  readonly between: readonly [before: string, after: string];
  /** What is wrong, with both values. */
  readonly wrong: string;
  /** What users see. */
  readonly symptom: string;
  /** How often to expect it. */
  readonly often: string;
  /** What to change: any one of these. */
  readonly fixes: readonly Fix[];
}

/** A change that ends a finding. */
export interface Fix {
  readonly hop: string;
  /** In the product's own syntax. */
  readonly setting: string;
}

/** Something that nobody knows, and that could hide a fault. */
export interface Unknown {
  readonly hop: string;
  readonly what: string;
}

/** What a rule is told besides the link. */
export interface Circumstances {
  /** Requests a second over the link; `undefined`: nobody said. */
  readonly requestsPerSecond: number | undefined;
  /** Connections that these requests share. */
  readonly connections: number;
}

/** What a rule says of a link. */
export interface Judgement {
  readonly findings: readonly Finding[];
  readonly unknown: readonly Unknown[];
}

/** Nothing to say. */
export const SOUND: Judgement = { findings: [], unknown: [] };

/** A rule: pure, and asked about each link by itself. */
export interface Rule {
  readonly name: RuleName;
  /** What must hold. */
  readonly doc: string;
  judge(link: Link, circumstances: Circumstances): Judgement;
}

/** Settings that must be at least the value; all others must be at most the value. */
const AT_LEAST: ReadonlySet<Setting> = new Set<Setting>([
  "downstreamIdle",
  "downstreamMaxRequests",
  "drain",
  "forgets",
]);

/**
 * A fix in the product's own syntax; none where the product has no such setting, does not take the value, or counts in
 * units that are too large for it.
 *
 * @param value - milliseconds, or a number where the template has `{n}`
 */
export function fix(hop: HttpHop | Device, setting: Setting, value: number): Fix[] {
  const template = hop.settings[setting];
  if (template === undefined || value === Number.POSITIVE_INFINITY) return [];
  const isAtLeast = AT_LEAST.has(setting);
  const round = isAtLeast ? Math.ceil : Math.floor;
  if (typeof template !== "string") {
    const { text, leastMs, mostMs } = template;
    if (isAtLeast ? value > mostMs : value < leastMs) return [];
    const bounded = { ...hop, settings: { [setting]: text } };
    return fix(bounded, setting, Math.min(mostMs, Math.max(leastMs, value)));
  }
  const inUnit = { s: round(value / 1000), m: round(value / 60_000), ms: round(value), n: round(value) };
  const amounts = { ...inUnit, f: round(value) / 1000, d: formatDuration(round(value)) };
  const used = Array.from(
    template.matchAll(/\{(s|m|ms|n|f|d)\}/g),
    ([, unit]) => amounts[unit as keyof typeof amounts],
  );
  if (used.length > 0 && (inUnit.ms < 1 || used.includes(0))) return [];
  const text = template.replace(/\{(s|m|ms|n|f|d)\}/g, (_, unit: keyof typeof amounts) => String(amounts[unit]));
  return [{ hop: hop.name, setting: text }];
}

/** A finding about a link. */
export function finding(link: Link, parts: Omit<Finding, "link" | "between">): Judgement {
  const { index, before, after } = link;
  return { findings: [{ ...parts, link: index, between: [before.name, after.name] }], unknown: [] };
}

/** Something about a link that is not known. */
export function unknown(hop: HttpHop, what: string): Judgement {
  return { findings: [], unknown: [{ hop: hop.name, what }] };
}
