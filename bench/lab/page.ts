/**
 * The page that is fetched: a document and its resources. Each fits into the first flight of a new TCP connection (10
 * segments, RFC 6928), so that what is measured is round trips and not bandwidth.
 *
 * @module
 */

const DOCUMENT_BYTES = 6000;
const RESOURCE_BYTES = 8000;

/** Path of the document (0) or one of its resources (1, 2, …). */
export function partPath(part: number): string {
  return part === 0 ? "/page.html" : `/image-${part}.png`;
}

/** Content of a part; `undefined` for a path that is none. */
export function partAt(path: string): Buffer | undefined {
  if (path === "/page.html") return part(0);
  const [, number] = /^\/image-([1-9]\d{0,2})\.png$/.exec(path) ?? [];
  return number === undefined ? undefined : part(Number(number));
}

function part(number: number): Buffer {
  return Buffer.alloc(number === 0 ? DOCUMENT_BYTES : RESOURCE_BYTES, `part ${number} of the page; `);
}
