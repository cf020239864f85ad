/**
 * The process's log: pino, one JSON object per line, or readable lines on a terminal.
 *
 * @module
 */
import { createRequire } from "node:module";
import pino from "pino";
import type PinoPretty from "pino-pretty";
import type { SidecarConfig } from "./config/sidecar-config.ts";
import type { LogDestination } from "./log-destination.ts";

/** The process's logger. Assign `level` to change what is written from then on. */
export type Log = pino.Logger;

/** Level of a log. */
export type LogLevel = SidecarConfig["log"]["level"];

/** What {@link createLog} takes. */
export interface LogOptions {
  readonly level: LogLevel;
  readonly destination: LogDestination;
  /** Readable, coloured lines instead of JSON. Default `false`. */
  readonly pretty?: boolean;
  /** Name of the service, in every line. */
  readonly service?: string;
}

/**
 * Creates a log. Fields named `url` or `target` never show the credentials that a URL may carry. Loggers made from it
 * with `child` follow its level; they are kept for as long as it is, so make them at start and not per exchange.
 */
export function createLog({ level, destination, pretty = false, service }: LogOptions): Log {
  const line = pretty
    ? prettyPrinter().prettyFactory({
        colorize: true,
        translateTime: "SYS:HH:MM:ss.l",
        ignore: "pid,hostname,service",
      })
    : String;
  const children: Log[] = [];
  const log: Log = pino(
    {
      level,
      base: service === undefined ? {} : { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: errorFields, url: withoutCredentials, target: withoutCredentials },
      onChild: (child) => children.push(child as Log),
    },
    { write: (json: string) => destination.write(line(json)) },
  );
  // A child has its own copy of the level from when it was made.
  log.on("level-change", (next, _number, _before, _beforeNumber, changed) => {
    if (changed === log) for (const child of children) child.level = next;
  });
  return log;
}

/** Loaded only where lines are read by people: it takes memory that a sidecar in a pod has no use for. */
function prettyPrinter(): typeof PinoPretty {
  return createRequire(import.meta.url)("pino-pretty");
}

/** What of an error is logged, and of those that led to it. */
interface ErrorFields {
  readonly type: string;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly code?: unknown;
  readonly cause?: ErrorFields;
  readonly errors?: readonly ErrorFields[];
}

/**
 * An error as it is logged: what it is, says and came from. Whatever else hangs on it stays out: parsers hang the bytes
 * of a request on their errors, URL the text that is none, HTTP programs whole requests.
 *
 * @param depth - how many causes are followed
 */
export function errorFields(thrown: unknown, depth = 5): ErrorFields {
  if (!(thrown instanceof Error)) return { type: typeof thrown, message: typeof thrown === "string" ? thrown : "" };
  const { name, message, stack, cause } = thrown;
  const { code } = thrown as NodeJS.ErrnoException;
  return {
    type: name,
    message: withoutAnyCredentials(message),
    stack: stack === undefined ? undefined : withoutAnyCredentials(stack),
    ...(typeof code === "string" || typeof code === "number" ? { code } : undefined),
    ...(cause === undefined || depth === 0 ? undefined : { cause: errorFields(cause, depth - 1) }),
    ...(thrown instanceof AggregateError && depth > 0
      ? { errors: thrown.errors.map((error: unknown) => errorFields(error, depth - 1)) }
      : undefined),
  };
}

function withoutAnyCredentials(text: string): string {
  return text.replace(/\/\/[^/?#\s@]*@/g, "//***@");
}

/** The text of a URL without user name and password. What is not a string stays as it is. */
export function withoutCredentials(url: unknown): unknown {
  return typeof url === "string" ? url.replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/?#]*@/i, "$1//***@") : url;
}
