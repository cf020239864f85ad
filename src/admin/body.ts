/**
 * Reading the JSON body of a request.
 *
 * @module
 */
import type { IncomingMessage } from "node:http";
import { firstDuplicateKey } from "../config/document.ts";
import { keyText } from "../config/faults.ts";
import { AdminError } from "./route.ts";

/** Largest body that is read, in bytes. */
export const MAX_BODY_BYTES = 64 * 1024;

/**
 * The request's body, parsed.
 *
 * @throws AdminError 415 for another content type or coding, 413 above {@link MAX_BODY_BYTES}, 400 when it is not JSON
 *   or has a field twice
 */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const type = request.headers["content-type"] ?? "";
  if (!/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(type)) {
    throw new AdminError(415, type === "" ? "there is no Content-Type" : `Content-Type is ${type}`, {
      field: "Content-Type",
      allowed: ["application/json"],
    });
  }
  if (request.headers["content-encoding"] !== undefined) {
    throw new AdminError(415, "the body must not be compressed", { field: "Content-Encoding" });
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  // What is too much is still read, and dropped: closing on unread bytes resets the connection before our answer is seen.
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
      else chunks.length = 0;
    }
  } catch {
    throw new AdminError(400, "the body was cut off");
  }
  if (bytes > MAX_BODY_BYTES) {
    throw new AdminError(413, `the body has ${bytes} bytes`, { allowed: `at most ${MAX_BODY_BYTES} bytes` });
  }
  let text: string;
  let body: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
    body = JSON.parse(text);
  } catch (error) {
    throw new AdminError(400, `the body is not JSON: ${(error as Error).message}`);
  }
  // Which of the two was meant, nobody can tell: sidecar.json refuses them as well.
  const twice = firstDuplicateKey(text);
  if (twice !== undefined) {
    throw new AdminError(400, "the field is given twice", { field: keyText(twice), allowed: "each field once" });
  }
  return body;
}

/**
 * The body as an object with no other fields than these.
 *
 * @throws AdminError 400
 */
export function objectWith(body: unknown, fields: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new AdminError(400, "the body must be a JSON object", { allowed: fields });
  }
  for (const field of Object.keys(body)) {
    if (!fields.includes(field)) throw new AdminError(400, "there is no such field", { field, allowed: fields });
  }
  return body as Record<string, unknown>;
}
