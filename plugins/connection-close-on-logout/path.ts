/**
 * Paths as logout rules see them: what most services treat as the same path is the same here.
 *
 * @module
 */

/** How a rule's path is compared. */
export type PathMatch = "exact" | "prefix" | "pattern";

/**
 * Segments of the path in a request target: without query, path parameters (`;jsessionid=…`), empty segments and dot
 * segments, percent-decoded once. An encoded slash does not part segments. What cannot be decoded stays as it is.
 */
export function pathSegments(target: string): string[] {
  const query = target.indexOf("?");
  const path = query === -1 ? target : target.slice(0, query);
  const segments: string[] = [];
  for (const raw of path.split("/")) {
    const parameters = raw.indexOf(";");
    const segment = decode(parameters === -1 ? raw : raw.slice(0, parameters));
    if (segment === "" || segment === ".") continue;
    if (segment === "..") segments.pop();
    else segments.push(segment);
  }
  return segments;
}

function decode(segment: string): string {
  if (!segment.includes("%")) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/**
 * Makes the test for a rule's path. Whatever a caller sends, a test takes at most as many steps as the path and the
 * pattern have segments, multiplied.
 *
 * @param path - begins with `/`; in a `pattern`, `*` stands for one segment and `**` for any number of them
 * @returns whether the {@link pathSegments} of a request match
 * @throws TypeError when the path cannot be one
 */
export function compilePath(path: string, how: PathMatch): (segments: readonly string[]) => boolean {
  if (!path.startsWith("/")) throw new TypeError('must begin with "/"');
  if (/[?#]/.test(path)) throw new TypeError("must not hold a query or fragment: they are not compared");
  switch (how) {
    case "exact":
    case "prefix": {
      if (path.includes("*")) {
        throw new TypeError('holds "*": set pathMatch to "pattern", or write "%2A" if the path really holds a star');
      }
      const wanted = pathSegments(path);
      return (segments) =>
        (how === "prefix" ? segments.length >= wanted.length : segments.length === wanted.length) &&
        wanted.every((segment, at) => segment === segments[at]);
    }
    case "pattern": {
      // Stars are told from an encoded %2A before decoding.
      const parts = path.split("/").filter((part) => part !== "");
      const pattern = parts.map((part): string | Star => {
        if (part === "*") return ONE;
        if (part === "**") return ANY;
        if (part.includes("*")) throw new TypeError(`"${part}": a star stands for a whole segment, "/*/" or "/**/"`);
        const [segment, ...more] = pathSegments(part);
        if (segment === undefined || more.length > 0) throw new TypeError(`"${part}" cannot be a segment of a pattern`);
        return segment;
      });
      return (segments) => matches(pattern, segments);
    }
  }
}

const ONE = Symbol("*");
const ANY = Symbol("**");
type Star = typeof ONE | typeof ANY;

/** Wildcard match that goes back to the last `**` only, which is enough and keeps it from becoming exponential. */
function matches(pattern: readonly (string | Star)[], segments: readonly string[]): boolean {
  let at = 0;
  let wanted = 0;
  let lastAny = -1;
  let retryAt = 0;
  while (at < segments.length) {
    const part = pattern[wanted];
    if (part === ANY) {
      lastAny = wanted++;
      retryAt = at;
    } else if (part === ONE || (part !== undefined && part === segments[at])) {
      wanted++;
      at++;
    } else if (lastAny !== -1) {
      wanted = lastAny + 1;
      at = ++retryAt;
    } else {
      return false;
    }
  }
  while (pattern[wanted] === ANY) wanted++;
  return wanted === pattern.length;
}
