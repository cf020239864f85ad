import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { FrameTracker, goingAwayFrame } from "../../src/proxy/websocket.ts";

interface Frame {
  readonly opcode: number;
  readonly length: number;
  readonly masked: boolean;
  /** How many bytes the length is written in; longer than needed is allowed to be read. */
  readonly lengthBytes: 0 | 2 | 8;
}

const frames = fc.array(
  fc
    .record({
      opcode: fc.constantFrom(0, 1, 2, 9, 10),
      length: fc.oneof(fc.nat(130), fc.constantFrom(0, 125, 126, 127, 65_535, 65_536)),
      masked: fc.boolean(),
    })
    .map((frame): Frame => {
      return { ...frame, lengthBytes: frame.length < 126 ? 0 : frame.length < 65_536 ? 2 : 8 };
    }),
  { maxLength: 8 },
);

function bytesOf({ opcode, length, masked, lengthBytes }: Frame): Buffer {
  const written = Buffer.alloc(lengthBytes);
  if (lengthBytes === 2) written.writeUInt16BE(length);
  if (lengthBytes === 8) written.writeBigUInt64BE(BigInt(length));
  const short = lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127;
  const first = Buffer.from([0x80 | opcode, (masked ? 0x80 : 0) | short]);
  // A payload that looks like close frames throughout.
  return Buffer.concat([first, written, Buffer.alloc((masked ? 4 : 0) + length, 0x88)]);
}

/** Cuts bytes into pieces of these sizes, over and over. */
function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const cut: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    cut.push(bytes.subarray(at, at + size));
    at += size;
  }
  return cut;
}

const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 70_000 })), {
  minLength: 1,
  maxLength: 6,
});

test("a tracker is at a boundary exactly where a frame ends, however the bytes are cut", () => {
  fc.assert(
    fc.property(frames, sizes, (list, cut) => {
      const parts = list.map(bytesOf);
      const ends = new Set([0]);
      let end = 0;
      for (const part of parts) {
        end += part.length;
        ends.add(end);
      }
      const tracker = new FrameTracker();
      let at = 0;
      assert.ok(tracker.atBoundary);
      for (const piece of pieces(Buffer.concat(parts), cut)) {
        assert.equal(tracker.take(piece), piece.length);
        at += piece.length;
        assert.equal(tracker.atBoundary, ends.has(at));
      }
      assert.equal(tracker.closing, false);
    }),
    { numRuns: 300 },
  );
});

test("a tracker that is to stop does so at the end of the frame, and not before it", () => {
  fc.assert(
    fc.property(frames, fc.nat(), sizes, (list, somewhere, cut) => {
      const bytes = Buffer.concat(list.map(bytesOf));
      const ends = [0];
      for (const frame of list) ends.push(ends.at(-1)! + bytesOf(frame).length);
      const from = bytes.length === 0 ? 0 : somewhere % (bytes.length + 1);
      const tracker = new FrameTracker();
      tracker.take(bytes.subarray(0, from));
      let taken = from;
      for (const piece of pieces(bytes.subarray(from), cut)) {
        const some = tracker.take(piece, true);
        taken += some;
        if (some < piece.length) break;
      }
      assert.equal(
        taken,
        ends.find((end) => end >= from),
      );
      assert.ok(tracker.atBoundary);
    }),
    { numRuns: 300 },
  );
});

test("a close frame is seen when it begins and when it is over", () => {
  for (const masked of [false, true]) {
    const frame = goingAwayFrame(masked);
    const tracker = new FrameTracker();
    tracker.take(bytesOf({ opcode: 1, length: 3, masked, lengthBytes: 0 }));
    assert.ok(!tracker.closing);
    tracker.take(frame.subarray(0, 1));
    assert.ok(tracker.closing && !tracker.closed);
    tracker.take(frame.subarray(1, frame.length - 1));
    assert.ok(tracker.closing && !tracker.closed);
    tracker.take(frame.subarray(frame.length - 1));
    assert.ok(tracker.closing && tracker.closed && tracker.atBoundary);
  }
});

test("a length that cannot be counted has no end", () => {
  const tracker = new FrameTracker();
  tracker.take(Buffer.from([0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
  tracker.take(Buffer.alloc(1000));
  assert.ok(!tracker.atBoundary);
});

test("going away is 1001, masked towards an upstream alone", () => {
  assert.deepEqual(goingAwayFrame(false), Buffer.from([0x88, 2, 0x03, 0xe9]));
  const masked = goingAwayFrame(true);
  assert.deepEqual([masked.length, masked[0], masked[1]], [8, 0x88, 0x82]);
  assert.deepEqual([masked[6]! ^ masked[2]!, masked[7]! ^ masked[3]!], [0x03, 0xe9]);
});
