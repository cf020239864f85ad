import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { compileStatus } from "../../../plugins/connection-close-on-logout/status.ts";

const ALL = Array.from({ length: 500 }, (_, at) => at + 100);

describe("status of a logout rule", () => {
  const table: [string, (status: number) => boolean][] = [
    ["any", () => true],
    ["204", (status) => status === 204],
    ["3xx", (status) => status >= 300 && status < 400],
    ["200-399", (status) => status >= 200 && status < 400],
    [
      "2xx, 302,401-403",
      (status) => (status >= 200 && status < 300) || status === 302 || (status >= 401 && status <= 403),
    ],
    ["200-200", (status) => status === 200],
  ];
  for (const [text, expected] of table) {
    it(`"${text}"`, () => {
      const matches = compileStatus(text);
      assert.deepEqual(ALL.filter(matches), ALL.filter(expected));
    });
  }

  it("is refused when it is not a status, class or range", () => {
    for (const text of [
      "",
      "2x",
      "6xx",
      "0",
      "99",
      "600",
      "2xx-3xx",
      "399-200",
      "200,",
      "any,200",
      "2XX",
      "-1",
      "200-",
    ]) {
      assert.throws(() => compileStatus(text), /must be "any"/, text);
    }
  });
});
