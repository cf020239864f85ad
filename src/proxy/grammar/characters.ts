/**
 * Which bytes may stand where in a head (RFC 9110 §5, RFC 9112 §2–3), as tables: one look-up per byte.
 *
 * @module
 */

/** The byte may be part of a `token`: a method or a field name. */
export const TOKEN: Uint8Array = table((code) => /[!#$%&'*+\-.^_`|~0-9A-Za-z]/.test(String.fromCharCode(code)));

/** The byte may be part of a method. One in lower case is refused, as nginx does: peers disagree on what it means. */
export const METHOD: Uint8Array = table((code) => /[!#$%&'*+\-.^_`|~0-9A-Z]/.test(String.fromCharCode(code)));

/** The byte may be part of a field value: no control characters but HTAB. */
export const VALUE: Uint8Array = table((code) => code === 0x09 || (code >= 0x20 && code !== 0x7f));

/** The byte may be part of a request target: a visible character of ASCII, no fragment. */
export const TARGET: Uint8Array = table((code) => code > 0x20 && code < 0x7f && code !== 0x23);

function table(allowed: (code: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, code) => (allowed(code) ? 1 : 0));
}
