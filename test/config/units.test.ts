import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatDuration, formatSize, parseDuration, parseSize } from "../../src/config/units.ts";

test("every number of milliseconds that a timer takes survives being written and read", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (ms) => {
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }),
  );
});

test("a duration is its number times its unit", () => {
  const factors = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const unit = fc.constantFrom<keyof typeof factors>("ms", "s", "m", "h");
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 500 }), unit, (number, unitName) => {
      assert.equal(parseDuration(`${number}${unitName}`), number * factors[unitName]);
    }),
  );
  assert.equal(parseDuration("1.5m"), 90_000);
  // 1.1 × 1000 is not a whole number in floating point.
  assert.equal(parseDuration("1.1s"), 1100);
});

test('"off" is without end, and is written so', () => {
  assert.equal(parseDuration("off"), Number.POSITIVE_INFINITY);
  assert.equal(formatDuration(Number.POSITIVE_INFINITY), "off");
  assert.equal(parseSize("off"), Number.POSITIVE_INFINITY);
  assert.equal(formatSize(Number.POSITIVE_INFINITY), "off");
});

test("what is not a duration is refused with what is allowed", () => {
  const message = 'must be a duration with a unit: "250ms", "55s", "5m", "1h" or "off"';
  for (const text of [
    "",
    "55",
    "s",
    "-1s",
    "+1s",
    "1 s",
    " 1s",
    "1s ",
    "1d",
    "1S",
    "1e3s",
    "1,5s",
    ".5s",
    "5.s",
    "Infinity",
  ]) {
    assert.throws(() => parseDuration(text), { name: "TypeError", message }, text);
  }
});

test("a duration that timers cannot count is refused", () => {
  assert.equal(parseDuration("2147483647ms"), 2 ** 31 - 1);
  assert.throws(() => parseDuration("2147483648ms"), { message: 'must be at most "596h", or "off"' });
  assert.throws(() => parseDuration("597h"), { message: 'must be at most "596h", or "off"' });
  assert.throws(() => parseDuration("0.5ms"), { message: "must be a whole number of milliseconds" });
  assert.throws(() => parseDuration("1.0005s"), { message: "must be a whole number of milliseconds" });
});

test("durations are written in their largest whole unit", () => {
  assert.deepEqual([0, 1, 1500, 55_000, 60_000, 90_000, 7_200_000].map(formatDuration), [
    "0s",
    "1ms",
    "1500ms",
    "55s",
    "1m",
    "90s",
    "2h",
  ]);
});

test("every number of bytes survives being written and read", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (bytes) => {
      assert.equal(parseSize(formatSize(bytes)), bytes);
    }),
  );
});

test("a size is its number times its unit, and a whole number of bytes", () => {
  assert.equal(parseSize("64KiB"), 65_536);
  assert.equal(parseSize("0.5KiB"), 512);
  assert.equal(parseSize("2MiB"), 2_097_152);
  assert.throws(() => parseSize("0.3KiB"), { message: "must be a whole number of bytes below 2^53" });
  assert.throws(() => parseSize("9007199254740992B"), { message: "must be a whole number of bytes below 2^53" });
});

test("what is not a size is refused with what is allowed", () => {
  const message = 'must be a size with a unit: "512B", "64KiB", "2MiB", "1GiB" or "off"';
  for (const text of ["", "64", "64K", "64KB", "64kib", "-1B", "1 KiB", "1TiB"]) {
    assert.throws(() => parseSize(text), { name: "TypeError", message }, text);
  }
});

test("no text makes the parsers return anything but a number from 0 up", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[\d.]{0,12}(ms|s|m|h|B|KiB|MiB|GiB|off)?$/)), (text) => {
      for (const parse of [parseDuration, parseSize]) {
        let value: number;
        try {
          value = parse(text);
        } catch (error) {
          assert.ok(error instanceof TypeError);
          continue;
        }
        assert.ok(value >= 0, `${text} → ${value}`);
      }
    }),
  );
});
