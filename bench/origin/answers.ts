/**
 * What the origin answers, and so what a proxy must hand on.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** A request of a scenario. */
export interface OriginRequest {
  readonly method: "GET" | "POST";
  readonly path: "/small" | "/large";
  readonly body: Uint8Array;
}

/** 100 bytes of JSON. */
export const SMALL: Uint8Array = Buffer.from(
  '{"order":"7f3c2a10","state":"paid","items":3,"total":"129.90","currency":"EUR","customer":"c-20417"}',
);

/** 1 MiB in which no two lines are the same, so that bytes that got lost or changed places are noticed. */
export const LARGE: Uint8Array = Buffer.from(
  Array.from({ length: 2 ** 14 }, (_, line) => `${String(line).padStart(63, "holdfast-")}\n`).join(""),
);

/** What an origin that reads bodies answers to a POST: 100 bytes of JSON that tell what it got. */
export function receipt(body: Uint8Array): Uint8Array {
  const digest = createHash("sha256").update(body).digest("hex");
  return Buffer.from(`{"received":${body.length},"sha256":"${digest}"}`.padEnd(100));
}
