/**
 * The terms the admin API is written in: a route, what it gets, what it answers, and how it refuses.
 *
 * @module
 */

/** What a route's function gets. */
export interface AdminRequest {
  /** The decoded `{name}` of the path; empty where the path has none. */
  readonly name: string;
  readonly query: URLSearchParams;
  /** The JSON body of a `PUT`; `undefined` for other methods. */
  readonly body: unknown;
}

/** What a route's function answers. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  /** Further response headers. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** One method on one path. A `GET` serves `HEAD` too. */
export interface Route {
  readonly method: "GET" | "PUT" | "POST";
  /** `/backends/{name}`: at most one segment is a parameter, the last. */
  readonly path: string;
  /**
   * Who may call it. `anyone`: any peer, by any `Host`, because probes come from outside and name the pod's address.
   * `scraper`: any peer on `admin.probes`, else as `operator`. `operator`: whoever has the token; where there is none,
   * this machine.
   */
  readonly audience: "anyone" | "scraper" | "operator";
  readonly handle: (request: AdminRequest) => Answer | Promise<Answer>;
  /** How long it may take to answer, in milliseconds, where that is longer than for others. */
  readonly answerMs?: number;
}

/** A request that is refused. The body it becomes is `{"error": {"field", "message", "allowed"}}`. */
export class AdminError extends Error {
  readonly status: number;
  /** Field, query parameter or header at fault; `null` when it is the request as a whole. */
  readonly field: string | null;
  /** What would have been accepted. */
  readonly allowed: unknown;
  readonly headers: Readonly<Record<string, string>>;

  /** @param details.headers - further response headers, such as `Allow` */
  constructor(
    status: number,
    message: string,
    details: { field?: string; allowed?: unknown; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message);
    this.status = status;
    this.field = details.field ?? null;
    this.allowed = details.allowed ?? null;
    this.headers = details.headers ?? {};
  }
}

/** A JSON answer. `Infinity`, which JSON lacks, is written `"off"` as in the configuration. */
export function json(status: number, value: unknown): Answer {
  const text = JSON.stringify(value, (_key, inner) => (inner === Number.POSITIVE_INFINITY ? "off" : inner), 2);
  return { status, contentType: "application/json", body: `${text}\n` };
}

/** The answer a refusal becomes. */
export function refusal({ status, field, message, allowed, headers }: AdminError): Answer {
  return { ...json(status, { error: { field, message, allowed } }), headers };
}
