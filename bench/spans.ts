/**
 * Counting spans in what an OTLP exporter sends, without decoding them.
 *
 * @module
 */

/** Spans in an `ExportTraceServiceRequest` (opentelemetry/proto/collector/trace/v1) in protobuf. */
export function countSpans(request: Uint8Array): number {
  let count = 0;
  for (const resourceSpans of messages(request, 1)) {
    for (const scopeSpans of messages(resourceSpans, 2)) {
      for (const _ of messages(scopeSpans, 2)) count++;
    }
  }
  return count;
}

/** Embedded messages with this field number. Every field of the messages on the way has a length. */
function* messages(message: Uint8Array, field: number): Generator<Uint8Array> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw new RangeError("the message ends in the middle of a number");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    if ((tag & 7) !== 2) throw new TypeError(`field ${tag >> 3} has no length`);
    const length = varint();
    if (tag >> 3 === field) yield message.subarray(at, at + length);
    at += length;
  }
}
