import assert from "node:assert/strict";
import test from "node:test";
import { needs } from "../interop/programs.ts";
import { FORWARDERS } from "../support/peers.ts";
import { ChainFuzz } from "./fuzz.ts";
import { ORIGINS, type OriginName, programOf } from "./origins.ts";

/** The same every time, so that a change alone makes it fail; the long run picks its own. */
const SEED = 20_261_120;
const CONVERSATIONS = 600;
/** The strict reader finds the most, and takes the least time. */
const STRICT_CONVERSATIONS = 2000;

for (const forwarder of FORWARDERS) {
  for (const origin of Object.keys(ORIGINS) as OriginName[]) {
    const program = programOf(origin);
    const options = program === undefined ? {} : needs(program);
    test(`${forwarder} → ${origin}: the origin sees what was forwarded, and nothing else`, options, async (t) => {
      const fuzz = new ChainFuzz(forwarder, origin);
      t.after(() => fuzz.close());
      const conversations = origin === "strict" ? STRICT_CONVERSATIONS : CONVERSATIONS;
      await fuzz.slice(SEED, conversations);
      const { inputs, forwarded, refused, markers, failures } = fuzz.result;
      assert.deepEqual(failures, []);
      // Something of everything really happened.
      assert.ok(inputs >= conversations, `${inputs} inputs`);
      assert.ok(forwarded > conversations / 10, `${forwarded} forwarded`);
      assert.ok(refused > conversations / 10, `${refused} refused`);
      assert.ok(markers > 0);
    });
  }
}
