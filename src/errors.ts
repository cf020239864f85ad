/**
 * Every failure of an exchange, as one closed list of codes, and the one function that turns a failure into a
 * response.
 *
 * @module
 */
import type { Failure, FailureSource, HeaderField } from "./plugin/api.ts";

interface Kind {
  readonly source: FailureSource;
  readonly status: number;
  /** Proxy error type of RFC 9209 §2.3, where one fits. */
  readonly proxyError: string | undefined;
}

function kind(source: FailureSource, status: number, proxyError?: string): Kind {
  return { source, status, proxyError };
}

/**
 * Every code with where such a failure comes from, the status it gets when no response has begun, and its proxy error
 * type (RFC 9209 §2.3). The list is documented in docs/errors.md.
 */
export const FAILURES = {
  // What the downstream peer sent.
  HF_BAD_REQUEST: kind("downstream", 400, "http_request_error"),
  HF_BAD_HOST: kind("downstream", 400, "http_request_error"),
  HF_BAD_TARGET: kind("downstream", 400, "http_request_error"),
  HF_BAD_FRAMING: kind("downstream", 400, "http_request_error"),
  HF_TARGET_TOO_LONG: kind("downstream", 414, "http_request_error"),
  HF_HEAD_TOO_LARGE: kind("downstream", 431, "http_request_error"),
  HF_BODY_TOO_LARGE: kind("downstream", 413, "http_request_error"),
  HF_LENGTH_REQUIRED: kind("downstream", 411, "http_request_error"),
  HF_EXPECTATION_FAILED: kind("downstream", 417, "http_request_error"),
  HF_VERSION_NOT_SUPPORTED: kind("downstream", 505, "http_request_error"),
  HF_CODING_NOT_SUPPORTED: kind("downstream", 501, "http_request_error"),
  HF_METHOD_NOT_ALLOWED: kind("downstream", 405, "http_request_denied"),
  HF_REQUEST_TIMEOUT: kind("downstream", 408, "http_request_error"),
  HF_DOWNSTREAM_ABORTED: kind("downstream", 499),
  HF_DOWNSTREAM_TLS: kind("downstream", 400, "tls_protocol_error"),
  // Where it was to go.
  HF_NO_ROUTE: kind("downstream", 403, "destination_not_found"),
  HF_LOOP: kind("downstream", 508, "proxy_loop_detected"),
  // What the upstream did.
  HF_UPSTREAM_DNS: kind("upstream", 502, "dns_error"),
  HF_UPSTREAM_REFUSED: kind("upstream", 502, "connection_refused"),
  HF_UPSTREAM_UNREACHABLE: kind("upstream", 502, "destination_ip_unroutable"),
  HF_UPSTREAM_CONNECT_TIMEOUT: kind("upstream", 504, "connection_timeout"),
  HF_UPSTREAM_TLS: kind("upstream", 502, "tls_protocol_error"),
  HF_UPSTREAM_CERTIFICATE: kind("upstream", 502, "tls_certificate_error"),
  HF_UPSTREAM_CLOSED: kind("upstream", 502, "connection_terminated"),
  HF_UPSTREAM_INCOMPLETE: kind("upstream", 502, "http_response_incomplete"),
  HF_UPSTREAM_BAD_RESPONSE: kind("upstream", 502, "http_protocol_error"),
  HF_UPSTREAM_HEAD_TOO_LARGE: kind("upstream", 502, "http_response_header_section_size"),
  HF_UPSTREAM_TIMEOUT: kind("upstream", 504, "http_response_timeout"),
  // What we refuse.
  HF_QUEUE_FULL: kind("internal", 503, "connection_limit_reached"),
  HF_QUEUE_TIMEOUT: kind("internal", 503, "connection_limit_reached"),
  HF_DRAINING: kind("internal", 503, "proxy_internal_response"),
  HF_INTERNAL: kind("internal", 500, "proxy_internal_error"),
  // What a plugin did.
  HF_PLUGIN_FAILED: kind("plugin", 500, "proxy_internal_error"),
  HF_PLUGIN_TIMEOUT: kind("plugin", 500, "proxy_internal_error"),
  // What the configuration says.
  HF_CONFIG: kind("config", 500),
} as const satisfies Record<string, Kind>;

/** Code of a failure; documented in docs/errors.md. */
export type FailureCode = keyof typeof FAILURES;

/**
 * A failure with a stable code. `message` is one line for operators: what is wrong, where, what to do. It may name
 * hosts and ports, never header values or bodies.
 */
export class HoldfastError extends Error implements Failure {
  override readonly name = "HoldfastError";
  readonly code: FailureCode;

  /** @param options.cause - the error that led to this one, kept for logs */
  constructor(code: FailureCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  get source(): FailureSource {
    return FAILURES[this.code].source;
  }

  get status(): number {
    return FAILURES[this.code].status;
  }
}

/** A response that Holdfast itself gives. */
export interface ErrorResponse {
  readonly status: number;
  readonly fields: readonly HeaderField[];
  readonly body: string;
}

/**
 * The one place where a failure becomes a response: its status, a `Proxy-Status` field (RFC 9209) that names the code
 * and a short body. What went wrong upstream is not told to the peer beyond its type.
 *
 * @param service - name in `Proxy-Status`: who speaks
 */
export function errorResponse(error: HoldfastError, service: string): ErrorResponse {
  const { status, proxyError } = FAILURES[error.code];
  const type = proxyError === undefined ? "" : `; error=${proxyError}`;
  return {
    status,
    fields: [
      ["Content-Type", "text/plain; charset=utf-8"],
      ["Proxy-Status", `holdfast-${service.replace(/[^A-Za-z0-9_-]/g, "-")}${type}; details="${error.code}"`],
      // RFC 9110 §15.5.6 asks for it; no method is allowed on what CONNECT names.
      ...(status === 405 ? [["Allow", ""] as const] : []),
    ],
    body: `${status} ${error.code}\n`,
  };
}

/** Any thrown value as a `HoldfastError`; one that is not one already becomes `HF_INTERNAL` with it as cause. */
export function asHoldfastError(thrown: unknown): HoldfastError {
  if (thrown instanceof HoldfastError) return thrown;
  return new HoldfastError("HF_INTERNAL", messageOf(thrown), { cause: thrown });
}

/** What whatever was thrown says. A plugin may throw anything, also what cannot be made text of. */
export function messageOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return "what was thrown cannot be shown";
  }
}
