/**
 * `connection-close-on-logout`: a response that logs someone out is the last one on its connections.
 * docs/plugins/connection-close-on-logout.md describes it.
 *
 * @module
 */
import { definePlugin, type Exchange, type ExchangeHooks, listOf, type ResponseHead } from "../src/plugin/api.ts";
import { clearsCookie, clearsSiteCookies } from "./connection-close-on-logout/cleared.ts";
import { compilePath, type PathMatch, pathSegments } from "./connection-close-on-logout/path.ts";
import { compileStatus } from "./connection-close-on-logout/status.ts";

/** One entry of `match`. */
interface Rule {
  readonly method: string;
  readonly path: string;
  readonly pathMatch: PathMatch;
  readonly status: string;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function assertMethod(value: unknown): void {
  // Methods are case-sensitive (RFC 9110 §9.1): "post" would silently never match.
  if (typeof value !== "string" || !TOKEN.test(value) || value !== value.toUpperCase()) {
    throw new TypeError('must be a method in capitals, such as "POST", or "*" for any');
  }
}

function assertPath(value: unknown): void {
  if (typeof value !== "string" || !value.startsWith("/")) throw new TypeError('must be a path that begins with "/"');
}

function assertStatus(value: unknown): void {
  compileStatus(typeof value === "string" ? value : "");
}

function assertCookieNames(value: unknown): void {
  if (!Array.isArray(value) || !value.every((name) => typeof name === "string" && TOKEN.test(name))) {
    throw new TypeError('must be a list of cookie names, such as ["session"]');
  }
}

/**
 * Makes the test for one rule.
 *
 * @param key - where it stands, for the message of a fault
 * @throws TypeError when its path does not suit its `pathMatch`
 */
function compileRule(rule: Rule, key: string): (exchange: Exchange, head: ResponseHead) => boolean {
  const { method } = rule;
  const statusMatches = compileStatus(rule.status);
  let pathMatches: (segments: readonly string[]) => boolean;
  try {
    pathMatches = compilePath(rule.path, rule.pathMatch);
  } catch (error) {
    throw new TypeError(`${key}.path: ${(error as Error).message}`, { cause: error });
  }
  return ({ request }, head) =>
    (method === "*" || method === request.method) &&
    statusMatches(head.status) &&
    pathMatches(pathSegments(request.target));
}

export default definePlugin({
  name: "connection-close-on-logout",
  apiVersion: 1,
  description: "Closes the connections that carried a logout",
  config: {
    match: listOf<Rule>(
      {
        method: {
          default: "*",
          format: assertMethod,
          type: "string",
          doc: 'Request method, in capitals. "*" (the default) stands for any.',
        },
        path: {
          default: null,
          format: assertPath,
          type: "path",
          doc: "Path of the request as it is sent to the upstream, after other plugins have edited it. Required. Upper and lower case differ. The query, path parameters (`;jsessionid=…`), doubled and trailing slashes make no difference; percent-encoding and dot segments are resolved first, except that an encoded slash parts nothing.",
        },
        pathMatch: {
          default: "exact" as PathMatch,
          format: ["exact", "prefix", "pattern"] satisfies PathMatch[],
          doc: "How `path` is compared. `exact` (the default): this path only. `prefix`: this path and what lies below it; `/auth` covers `/auth/logout` and not `/authors`. `pattern`: `*` stands for one whole segment and `**` for any number of them, none included: `/tenants/*/logout`, `/**/logout`. There are no regular expressions, so no request can make matching slow.",
        },
        status: {
          default: "200-399",
          format: assertStatus,
          type: "statuses",
          doc: 'Status of the response: a status, a class such as "2xx", a range such as "200-399", several with commas between, or "any". The default "200-399" takes success and redirection: a logout that was refused or failed has logged nobody out.',
        },
      },
      "Requests that are logouts. One is enough; its method, path and status must all match. Default: none, so that only `clearSiteData` and `cookies` tell.",
    ),
    clearSiteData: {
      default: true,
      format: Boolean,
      doc: 'Whether a response with `Clear-Site-Data: "cookies"` or `"*"` is a logout, whatever its request and status. Services send it for little else, so the default is true.',
    },
    cookies: {
      default: [] as string[],
      format: assertCookieNames,
      type: "list of strings",
      doc: "Names of session cookies, exactly as written in `Set-Cookie`. A response that clears one (`Max-Age` of 0 or less, `Expires` in the past, or an empty value) is a logout, whatever its request and status. One that sets the same cookie anew as well is not. Default: none. Do not list a cookie that the service also clears for visitors without a session: each such response would cost a connection.",
    },
  },
  setup({ config, log }) {
    const rules = config.match.map((rule, at) => compileRule(rule, `match[${at}]`));
    const cookies: ReadonlySet<string> = new Set(config.cookies);
    if (rules.length === 0 && cookies.size === 0 && !config.clearSiteData) {
      log.warn({}, "nothing tells a logout: match and cookies are empty and clearSiteData is off; set one of them");
      return {};
    }

    /** What tells that the response is a logout; `undefined` if nothing does. */
    function evidence(exchange: Exchange, head: ResponseHead): string | undefined {
      const rule = rules.findIndex((matches) => matches(exchange, head));
      if (rule !== -1) return `match[${rule}]`;
      if (
        config.clearSiteData &&
        head.headers.has("clear-site-data") &&
        clearsSiteCookies(head.headers.getAll("clear-site-data"))
      )
        return "clearSiteData";
      if (cookies.size > 0 && clearsCookie(head.headers.getAll("set-cookie"), cookies, Date.now())) return "cookies";
      return undefined;
    }

    const hooks: ExchangeHooks = {
      response(head, exchange) {
        const by = evidence(exchange, head);
        if (by === undefined) return;
        exchange.downstream.drain("logout");
        exchange.upstream?.drain("logout");
        log.debug(
          { by, downstream: exchange.downstream.id, upstream: exchange.upstream?.id },
          "logout: this response is the last one on its connections",
        );
      },
    };
    return { exchange: () => hooks };
  },
});
