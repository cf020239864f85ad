/**
 * What a response takes away from the browser: cookies by `Set-Cookie`, everything by `Clear-Site-Data`.
 *
 * @module
 */

/**
 * Whether `Clear-Site-Data` takes the cookies away: it says `"cookies"` or `"*"`.
 *
 * @param values - of all its lines. Quotes are required by the specification and not missed here
 */
export function clearsSiteCookies(values: readonly string[]): boolean {
  return values.some((value) =>
    value.split(",").some((part) => {
      const type = part.trim().replace(/^"(.*)"$/, "$1");
      return type === "cookies" || type === "*";
    }),
  );
}

/**
 * Whether one of the named cookies is cleared: some `Set-Cookie` line removes it and none of the same response sets
 * it anew, as happens when a session is moved to another path or given a new identifier.
 *
 * @param lines - values of all `Set-Cookie` lines
 * @param names - exact names of the session cookies
 */
export function clearsCookie(lines: readonly string[], names: ReadonlySet<string>, nowEpochMs: number): boolean {
  const cleared = new Set<string>();
  const live = new Set<string>();
  for (const line of lines) {
    const [pair = "", ...attributes] = line.split(";");
    const equals = pair.indexOf("=");
    const name = pair.slice(0, equals).trim();
    if (equals === -1 || !names.has(name)) continue;
    const value = pair
      .slice(equals + 1)
      .trim()
      .replace(/^"(.*)"$/, "$1");
    (value === "" || isExpired(attributes, nowEpochMs) ? cleared : live).add(name);
  }
  for (const name of cleared) if (!live.has(name)) return true;
  return false;
}

/** RFC 6265 §5.3: `Max-Age` outranks `Expires`, the last of each counts, and one that cannot be read is ignored. */
function isExpired(attributes: readonly string[], nowEpochMs: number): boolean {
  let byMaxAge: boolean | undefined;
  let byExpires: boolean | undefined;
  for (const attribute of attributes) {
    const equals = attribute.indexOf("=");
    if (equals === -1) continue;
    const value = attribute.slice(equals + 1).trim();
    switch (attribute.slice(0, equals).trim().toLowerCase()) {
      case "max-age":
        if (/^-?\d+$/.test(value)) byMaxAge = Number(value) <= 0;
        break;
      case "expires": {
        const expiresEpochMs = Date.parse(value);
        if (!Number.isNaN(expiresEpochMs)) byExpires = expiresEpochMs <= nowEpochMs;
        break;
      }
    }
  }
  return byMaxAge ?? byExpires ?? false;
}
