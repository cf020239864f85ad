/**
 * The `console` exporter: one readable line per recorded exchange.
 *
 *     GET 200 3.1 ms  ↑ conn 7 reused, request 12, idle 240 ms
 *     GET 200 5.4 ms  ↑ conn 7 reused, request 13, idle 5001 ms, HF_UPSTREAM_CLOSED  ↻ conn 8 new (tcp 0.4 ms)
 *
 * @module
 */
import { styleText } from "node:util";
import { type Attributes, type HrTime, SpanKind } from "@opentelemetry/api";
import type { ReadableSpan, SpanProcessor } from "@opentelemetry/sdk-trace";
import { ATTR, OTHER } from "./names.ts";

/** Where lines go: `process.stdout`, or anything with `write`. */
export interface ConsoleOutput {
  write(text: string): unknown;
  /** Colours are used on a terminal only. */
  readonly isTTY?: boolean | undefined;
}

/** Prints a line when the SERVER span of an exchange ends; its CLIENT spans end before it. */
export class ConsoleSpanProcessor implements SpanProcessor {
  readonly #output: ConsoleOutput;
  /** Attempts of exchanges under way, by the id of their SERVER span. */
  readonly #attempts = new Map<string, ReadableSpan[]>();

  constructor(output: ConsoleOutput) {
    this.#output = output;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (span.kind === SpanKind.CLIENT) {
      const server = span.parentSpanContext?.spanId;
      if (server === undefined) return;
      const attempts = this.#attempts.get(server);
      if (attempts === undefined) this.#attempts.set(server, [span]);
      else attempts.push(span);
    } else if (span.kind === SpanKind.SERVER) {
      const { spanId } = span.spanContext();
      const attempts = this.#attempts.get(spanId) ?? [];
      this.#attempts.delete(spanId);
      this.#output.write(`${exchangeLine(span, attempts, this.#output.isTTY === true)}\n`);
    }
  }

  async forceFlush(): Promise<void> {}

  async shutdown(): Promise<void> {}
}

function exchangeLine(server: ReadableSpan, attempts: readonly ReadableSpan[], colours: boolean): string {
  const { attributes } = server;
  const method = attributes[ATTR.httpRequestMethod];
  const shown = method === OTHER ? attributes[ATTR.httpRequestMethodOriginal] : method;
  const parts = [`${shown} ${shownStatus(attributes, colours)} ${durationMs(server.duration).toFixed(1)} ms`];
  for (const [index, attempt] of attempts.entries()) parts.push(`${index === 0 ? "↑" : "↻"} ${attemptText(attempt)}`);
  const answeredBy = attributes[ATTR.answeredBy];
  if (answeredBy === "plugin") parts.push("answered by a plugin");
  // With an attempt the failure already stands there.
  else if (attempts.length === 0 && attributes[ATTR.errorType] !== undefined)
    parts.push(String(attributes[ATTR.errorType]));
  return parts.join("  ");
}

function attemptText({ attributes }: ReadableSpan): string {
  const id = attributes[ATTR.connectionId];
  const parts: string[] = [];
  if (id === undefined) parts.push("no connection");
  else if (attributes[ATTR.connReused] === true) {
    parts.push(`conn ${id} reused`, `request ${attributes[ATTR.connectionRequestIndex]}`);
    parts.push(`idle ${Math.round(Number(attributes[ATTR.connectionIdleMs]))} ms`);
  } else parts.push(`conn ${id} new${setupText(attributes)}`);
  const error = attributes[ATTR.errorType];
  // A status of 400 or more is an error of the exchange, which the line begins with.
  if (error !== undefined && error !== String(attributes[ATTR.httpResponseStatusCode])) parts.push(String(error));
  return parts.join(", ");
}

function setupText(attributes: Attributes): string {
  const phases: string[] = [];
  for (const [label, name] of [
    ["dns", ATTR.connectionDnsMs],
    ["tcp", ATTR.connectionConnectMs],
    ["tls", ATTR.connectionTlsMs],
  ] as const) {
    const ms = attributes[name];
    if (typeof ms === "number") phases.push(`${label} ${ms.toFixed(1)}`);
  }
  return phases.length === 0 ? "" : ` (${phases.join(", ")} ms)`;
}

function shownStatus(attributes: Attributes, colours: boolean): string {
  const status = attributes[ATTR.httpResponseStatusCode];
  const text = status === undefined ? "---" : String(status);
  if (!colours) return text;
  const colour = status === undefined || Number(status) >= 500 ? "red" : Number(status) >= 400 ? "yellow" : "green";
  return styleText(colour, text, { validateStream: false });
}

function durationMs([seconds, nanoseconds]: HrTime): number {
  return seconds * 1000 + nanoseconds / 1e6;
}
