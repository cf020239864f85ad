import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { validate as validateDeployment } from "kubernetes-models/_schemas/IoK8sApiAppsV1Deployment";
import { validate as validateConfigMap } from "kubernetes-models/_schemas/IoK8sApiCoreV1ConfigMap";
import { validate as validateService } from "kubernetes-models/_schemas/IoK8sApiCoreV1Service";
import { parseAllDocuments } from "yaml";
import { type LoadedConfig, loadConfig } from "../../src/config/load.ts";
import { ROOT, read, runScript } from "./files.ts";

// biome-ignore lint/suspicious/noExplicitAny: manifests, checked against their schemas below
type Manifest = any;
/** Compiled from the JSON schema that Kubernetes publishes for the kind. */
type Validator = ((value: unknown) => boolean) & { errors?: readonly object[] | null };

const VALIDATORS: Readonly<Record<string, Validator>> = {
  "apps/v1 Deployment": validateDeployment,
  "v1 ConfigMap": validateConfigMap,
  "v1 Service": validateService,
};

function load(): Manifest[] {
  return readdirSync(join(ROOT, "deploy/kubernetes")).flatMap((file) =>
    parseAllDocuments(read(`deploy/kubernetes/${file}`), { strict: true, uniqueKeys: true }).map((document) => {
      assert.deepEqual(document.errors, [], file);
      return document.toJS();
    }),
  );
}

const manifests = load();

function one(kind: string): Manifest {
  const found = manifests.filter((manifest) => manifest.kind === kind);
  assert.equal(found.length, 1, kind);
  return found[0];
}

/**
 * What is wrong with a value by its schema, fields that the schema does not know included.
 *
 * The published schemas allow unknown fields, so a misspelt one would pass. The compiled validators look at every
 * field that they know: one that was never looked at is unknown.
 */
function faults(validator: Validator, value: object): string[] {
  const unseen = new Set<string>();
  const watch = (inner: object, path: string): object => {
    for (const key of Object.keys(inner)) unseen.add(`${path}/${key}`);
    return new Proxy(inner, {
      get(object, key) {
        const seen = Reflect.get(object, key);
        if (typeof key === "symbol" || !Object.hasOwn(object, key)) return seen;
        unseen.delete(`${path}/${key}`);
        return typeof seen === "object" && seen !== null ? watch(seen, `${path}/${key}`) : seen;
      },
    });
  };
  const valid = validator(watch(value, ""));
  return [...(valid ? [] : (validator.errors ?? []).map((error) => JSON.stringify(error))), ...unseen];
}

test("every manifest is valid by Kubernetes' schema, without a field that it does not know", () => {
  assert.deepEqual(manifests.map(({ kind }) => kind).sort(), ["ConfigMap", "Deployment", "Service"]);
  for (const manifest of manifests) {
    const name = `${manifest.apiVersion} ${manifest.kind}`;
    const validator = VALIDATORS[name];
    assert.ok(validator, name);
    assert.deepEqual(faults(validator, manifest), [], name);
  }
});

test("the check above finds a misspelt field, a wrong type and a wrong word", () => {
  const spoil = (change: (container: Manifest) => void) => {
    const copy = structuredClone(one("Deployment"));
    change(copy.spec.template.spec.initContainers[0]);
    return faults(validateDeployment, copy).join("\n");
  };
  assert.match(
    spoil((container) => Object.assign(container, { restartPolcy: "Always" })),
    /restartPolcy/,
  );
  assert.match(
    spoil((container) => Object.assign(container.securityContext, { readOnlyRootFileSystem: true })),
    /readOnlyRootFileSystem/,
  );
  assert.match(
    spoil((container) => Object.assign(container.ports[0], { containerPort: "15006" })),
    /containerPort/,
  );
  assert.match(
    spoil((container) => Object.assign(container, { imagePullPolicy: "Sometimes" })),
    /imagePullPolicy/,
  );
});

const pod = one("Deployment").spec.template;
const sidecar = pod.spec.initContainers[0];
const service = pod.spec.containers[0];

function sidecarJson(t: TestContext): LoadedConfig {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "sidecar.json");
  writeFileSync(file, one("ConfigMap").data["sidecar.json"]);
  return loadConfig(file, {});
}

function port(name: string): number {
  return sidecar.ports.find((entry: Manifest) => entry.name === name).containerPort;
}

test("the sidecar.json in the ConfigMap is valid, mounted where the image reads it, and meets the ports", (t) => {
  const { config } = sidecarJson(t);
  assert.equal(config.inbound?.listen.port, port("inbound"));
  // The kubelet and Prometheus come from outside the pod; nobody else's requests do.
  assert.deepEqual(config.admin.probes, { host: "0.0.0.0", port: port("probes") });
  assert.equal(config.admin.listen.host, "127.0.0.1");
  assert.deepEqual(
    sidecar.ports.map(({ name }: Manifest) => name),
    ["inbound", "probes"],
  );
  const [mount] = sidecar.volumeMounts;
  assert.equal(mount.mountPath, "/etc/holdfast");
  const volume = pod.spec.volumes.find((entry: Manifest) => entry.name === mount.name);
  assert.equal(volume.configMap.name, one("ConfigMap").metadata.name);
  assert.equal(pod.metadata.annotations["prometheus.io/port"], String(port("probes")));
});

test("the service's own requests leave through the outbound listener", (t) => {
  const { config } = sidecarJson(t);
  const env = Object.fromEntries(service.env.map(({ name, value }: Manifest) => [name, value]));
  const proxy = `http://${config.outbound?.listen.host}:${config.outbound?.listen.port}`;
  assert.deepEqual([env.HTTP_PROXY, env.http_proxy], [proxy, proxy]);
  assert.equal(env.NO_PROXY, env.no_proxy);
  assert.ok(env.NO_PROXY.split(",").includes("127.0.0.1"));
});

test("it is a native sidecar, probed on the port for probes", () => {
  assert.equal(sidecar.restartPolicy, "Always");
  assert.deepEqual(sidecar.startupProbe.httpGet, { path: "/readyz", port: "probes" });
  assert.deepEqual(sidecar.readinessProbe.httpGet, { path: "/readyz", port: "probes" });
  assert.deepEqual(sidecar.livenessProbe.httpGet, { path: "/healthz", port: "probes" });
});

test("preStop drains, and tells whether it did", async (t) => {
  const [node, flag, script] = sidecar.lifecycle.preStop.exec.command;
  assert.deepEqual([node, flag], ["node", "-e"]);
  const admin = sidecarJson(t).config.admin.listen.port;
  assert.deepEqual(await runScript(script, admin, 202), { exitCode: 0, requests: ["POST /drain"] });
  assert.deepEqual(await runScript(script, admin, 403), { exitCode: 1, requests: ["POST /drain"] });
});

test("the pod has time for preStop and the whole drain, and the service outlives the idle grace", (t) => {
  const { deadlineMs, idleGraceMs } = sidecarJson(t).config.drain;
  const sleepMs = service.lifecycle.preStop.sleep.seconds * 1000;
  assert.ok(pod.spec.terminationGracePeriodSeconds * 1000 > sleepMs + deadlineMs);
  assert.ok(sleepMs >= idleGraceMs);
});

test("every container is as locked down as Kubernetes' restricted profile, with a read-only root", () => {
  assert.equal(pod.spec.securityContext.runAsNonRoot, true);
  assert.deepEqual(pod.spec.securityContext.seccompProfile, { type: "RuntimeDefault" });
  for (const { name, securityContext, resources } of [sidecar, service]) {
    assert.ok(securityContext.runAsUser > 0, name);
    assert.equal(securityContext.allowPrivilegeEscalation, false, name);
    assert.equal(securityContext.readOnlyRootFilesystem, true, name);
    assert.deepEqual(securityContext.capabilities, { drop: ["ALL"] }, name);
    assert.ok(resources.requests.memory && resources.limits.memory, name);
  }
  assert.match(read("deploy/Dockerfile"), new RegExp(`^USER ${sidecar.securityContext.runAsUser}:`, "m"));
});

test("the Service selects the pods and leads to the sidecar's inbound listener", () => {
  const { selector, ports } = one("Service").spec;
  const deployment = one("Deployment").spec;
  assert.deepEqual(deployment.selector.matchLabels, pod.metadata.labels);
  assert.deepEqual(selector, pod.metadata.labels);
  assert.deepEqual(
    ports.map(({ targetPort }: Manifest) => targetPort),
    ["inbound"],
  );
});
