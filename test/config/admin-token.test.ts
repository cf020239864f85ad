import assert from "node:assert/strict";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { loadConfig } from "../../src/config/load.ts";
import { load } from "../../src/load.ts";
import { faultsOf, folderWith } from "./folder.ts";

const TOKEN = "correct-horse-battery-staple";
const REST = { service: "orders", inbound: { upstream: "http://127.0.0.1:8080" } };

function faults(t: TestContext, admin: object, env: Record<string, string> = {}, files: Record<string, string> = {}) {
  const folder = folderWith(t, { "sidecar.json": { ...REST, admin }, ...files });
  return faultsOf(folder, () => load(path.join(folder, "sidecar.json"), env));
}

function token(t: TestContext, admin: object, env: Record<string, string> = {}, files: Record<string, string> = {}) {
  const folder = folderWith(t, { "sidecar.json": { ...REST, admin }, ...files });
  return loadConfig(path.join(folder, "sidecar.json"), env).config.admin.token;
}

test("the token comes from the configuration, the environment or a file", (t) => {
  assert.equal(token(t, {}), undefined);
  assert.equal(token(t, { token: TOKEN }), TOKEN);
  assert.equal(token(t, {}, { HOLDFAST_ADMIN_TOKEN: TOKEN }), TOKEN);
  assert.equal(token(t, { tokenFile: "token" }, {}, { token: `${TOKEN}\n` }), TOKEN);
  assert.equal(token(t, {}, { HOLDFAST_ADMIN_TOKEN_FILE: "secret/token" }, { "secret/token": TOKEN }), TOKEN);
});

test("off loopback, the admin API does not start without a token", async (t) => {
  const wrong = (listen: string): string[] => [
    `sidecar.json:7:15: admin.listen: rule admin-token-beyond-loopback: admin.listen ("${listen}") is reached from other machines, and there is no admin.token; listen on 127.0.0.1 and let probes come to admin.probes, or set admin.token or admin.tokenFile`,
  ];
  for (const listen of ["0.0.0.0:15000", "[::]:15000", "10.0.0.1:15000", "admin.internal:15000"]) {
    assert.deepEqual(await faults(t, { listen }), wrong(listen));
    assert.deepEqual(await faults(t, { listen, token: TOKEN }), []);
    assert.deepEqual(await faults(t, { listen }, { HOLDFAST_ADMIN_TOKEN: TOKEN }), []);
  }
  for (const listen of ["127.0.0.1:15000", "[::1]:15000", "localhost:15000", "127.9.9.9:0"]) {
    assert.deepEqual(await faults(t, { listen }), []);
  }
  assert.deepEqual(await faults(t, { probes: "0.0.0.0:15020" }), []);
  assert.match((await faults(t, { probes: "127.0.0.1:15000" })).join(), /rule listeners-apart: admin\.probes/);
});

test("a token that is too short, odd or given twice is refused and never repeated", async (t) => {
  const odd = [
    "short-secret",
    "has spaces in its secret",
    "secret\u00e9secretsecret",
    "secret,secret,secret",
    "s".repeat(1025),
  ];
  for (const text of odd) {
    const lines = [
      ...(await faults(t, { token: text })),
      ...(await faults(t, {}, { HOLDFAST_ADMIN_TOKEN: text })),
      ...(await faults(t, { tokenFile: "t" }, {}, { t: text })),
    ];
    assert.equal(lines.length, 3);
    for (const line of lines) {
      assert.match(line, /must be 16 to 1024 characters/);
      assert.doesNotMatch(line, /short-secret|secretsecret|secret,|sss|in its secret/);
    }
  }
  assert.deepEqual(await faults(t, { token: TOKEN, tokenFile: "t" }, {}, { t: TOKEN }), [
    "sidecar.json:8:18: admin.tokenFile: stands beside admin.token; give one of them",
  ]);
  assert.deepEqual(await faults(t, { tokenFile: "nowhere" }), [
    'sidecar.json:7:18: admin.tokenFile: "nowhere" is not usable (ENOENT); must be a file that can be read',
  ]);
});
