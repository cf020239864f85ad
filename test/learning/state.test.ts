import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { Learning } from "../../src/learning/learning.ts";
import { decodeState, encodeState } from "../../src/learning/state.ts";
import { StateFile } from "../../src/learning/state-file.ts";

const HOUR_MS = 3_600_000;

/** An origin that closed idle connections after five seconds, four times, and takes 100 requests. */
function learned(): Learning {
  const learning = new Learning();
  const peer = learning.of("http://orders:8080", 0).opened("10.0.0.9", 1, 0);
  for (let at = 1; at <= 4; at++) {
    peer.closed({ openMs: 5000, closedMs: 5000.5, atMs: at * 60_000 });
    peer.ended({ exchanges: 100, ageMs: at, idleMs: 0, announced: true, atMs: at * 60_000 });
  }
  return learning;
}

function limitOf(learning: Learning): number {
  return learning.of("http://orders:8080", performance.now()).whole.limit!.limitMs;
}

function memories(learning: Learning) {
  return Array.from(learning, ([name, { memory }]) => [name, memory] as const);
}

/** In a process that has just started, at this time on the wall. */
function restored(text: string, epochMs: number): Learning {
  const learning = new Learning();
  learning.restore(decodeState(text, { nowMs: 100, epochMs }), 100);
  return learning;
}

describe("state of learning", () => {
  it("is known again in another process, whose clock begins anew", () => {
    const text = encodeState(memories(learned()), { nowMs: 300_000, epochMs: 1_800_000_000_000 });
    const origin = restored(text, 1_800_000_000_000 + HOUR_MS).of("http://orders:8080", 100);
    const limitMs = limitOf(learned());
    assert.equal(origin.whole.limit?.limitMs, limitMs);
    assert.deepEqual(origin.whole.ending.requests, { limit: 100, announced: true });
    assert.deepEqual(
      Array.from(origin.addresses(), ([address, peer]) => [address, peer.limit?.limitMs]),
      [["10.0.0.9", limitMs]],
    );
  });

  it("ages while no process runs", () => {
    const text = encodeState(memories(learned()), { nowMs: 300_000, epochMs: 1_800_000_000_000 });
    const { whole } = restored(text, 1_800_000_000_000 + 13 * HOUR_MS).of("http://orders:8080", 100);
    assert.equal(whole.limit, undefined);
    assert.ok(whole.isDoubtful(4999));
    const later = restored(text, 1_800_000_000_000 + 8 * 24 * HOUR_MS).of("http://orders:8080", 100);
    assert.equal(later.whole.isDoubtful(900), false);
  });

  it("does not last longer because the clock was set back", () => {
    const text = encodeState(memories(learned()), { nowMs: 300_000, epochMs: 1_800_000_000_000 });
    const { whole } = restored(text, 1_700_000_000_000).of("http://orders:8080", 100);
    whole.judge(100 + 13 * HOUR_MS, 0);
    assert.equal(whole.limit, undefined);
  });

  it("is the same after it was written and read, but for whole milliseconds of time", () => {
    const close = fc.record({ ageMs: fc.double({ min: 20, max: 1e5, noNaN: true }), gapMs: fc.nat(100_000) });
    fc.assert(
      fc.property(fc.array(close, { maxLength: 30 }), (closes) => {
        const learning = new Learning();
        const peer = learning.of("https://a:1", 0).opened("::1", undefined, 0);
        let atMs = 0;
        for (const { ageMs, gapMs } of closes) {
          atMs += gapMs;
          peer.closed({ openMs: ageMs / 2, closedMs: ageMs, atMs });
        }
        const moment = { nowMs: atMs, epochMs: 1_800_000_000_000 };
        const text = encodeState(memories(learning), moment);
        const again = new Learning();
        again.restore(decodeState(text, moment), atMs);
        assert.equal(encodeState(memories(again), moment), text);
        assert.deepEqual(again.of("https://a:1", atMs).whole.limit, learning.of("https://a:1", atMs).whole.limit);
      }),
    );
  });

  it("is refused with a reason, or valid, whatever was done to the text", () => {
    const text = encodeState(memories(learned()), { nowMs: 300_000, epochMs: 1_800_000_000_000 });
    const damaged = fc.tuple(fc.nat(text.length), fc.nat(20), fc.string({ maxLength: 6 }));
    fc.assert(
      fc.property(damaged, ([at, cut, put]) => {
        try {
          const learning = restored(text.slice(0, at) + put + text.slice(at + cut), 1_800_000_000_000);
          for (const [, { whole }] of learning) assert.ok((whole.limit?.limitMs ?? 1) >= 0);
        } catch (error) {
          assert.ok((error as Error).message.length > 0);
          assert.ok(!(error instanceof TypeError), String(error));
        }
      }),
    );
    assert.throws(() => decodeState('{"version":2,"origins":{}}', { nowMs: 0, epochMs: 0 }), /version is 2, not 1/);
  });
});

describe("state file", () => {
  function file(t: TestContext): string {
    const folder = mkdtempSync(path.join(tmpdir(), "holdfast-state-"));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    return path.join(folder, "learned.json");
  }

  function opened(name: string, learning: Learning) {
    const warnings: string[] = [];
    const log = { warn: (_fields: object, message: string) => void warnings.push(message) };
    return { state: new StateFile(name, learning, log), warnings };
  }

  it("is written whole, for its owner alone, and read by the next process", async (t) => {
    const name = file(t);
    const first = opened(name, learned());
    first.state.load();
    await first.state.save();
    assert.deepEqual(readdirSync(path.dirname(name)), ["learned.json"]);
    assert.equal(statSync(name).mode & 0o777, 0o600);
    const learning = new Learning();
    const second = opened(name, learning);
    second.state.load();
    assert.equal(limitOf(learning), limitOf(learned()));
    assert.deepEqual([...first.warnings, ...second.warnings], []);
  });

  it("is not written again while nothing is different", async (t) => {
    const name = file(t);
    const { state } = opened(name, learned());
    await state.save();
    rmSync(name);
    await state.save();
    assert.deepEqual(readdirSync(path.dirname(name)), []);
  });

  it("is ignored with a warning that says what to do, when it is not valid, and written anew", async (t) => {
    const name = file(t);
    writeFileSync(name, '{"version":1,');
    const { state, warnings } = opened(name, learned());
    state.load();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /^learning\.stateFile cannot be used and is ignored: .*; it is written anew/);
    await state.save();
    assert.equal(JSON.parse(readFileSync(name, "utf8")).version, 1);
  });

  it("warns once while it cannot be written", async (t) => {
    const name = path.join(path.dirname(file(t)), "missing", "learned.json");
    const { state, warnings } = opened(name, learned());
    await state.save();
    await state.save();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /^what was learned is not kept: .*; make the folder of learning\.stateFile writable/);
  });

  it("warns when it cannot be read", { skip: process.getuid?.() === 0 && "root reads everything" }, (t) => {
    const name = file(t);
    writeFileSync(name, "{}");
    chmodSync(name, 0);
    const { state, warnings } = opened(name, new Learning());
    state.load();
    assert.equal(warnings.length, 1);
  });
});
