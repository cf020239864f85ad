/**
 * No secret of a request, a response or the configuration shows in anything that Holdfast writes or tells: a process
 * of its own carries exchanges with recognisable secrets in every place, good ones, failed ones and a crash, and then
 * its log, its standard error, its spans and metrics, and its admin API are searched.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { FORWARDERS, RawPeer, rawOrigin } from "../support/peers.ts";
import { Collector } from "../telemetry/collector.ts";
import { runSidecar } from "./running.ts";

const MARK = "s3cr3t";
const secret = (place: string): string => `${MARK}-${place}-${"x".repeat(8)}`;

/** Keys whose values the semantic conventions take out of `url.query` and `url.full`, the legacy ones of AWS included. */
const KEYS = [
  "X-Amz-Signature",
  "X-Amz-Credential",
  "X-Amz-Security-Token",
  "AWSAccessKeyId",
  "Signature",
  "sig",
  "X-Goog-Signature",
];
const QUERY = KEYS.map((key) => `${key}=${secret(`query-${key}`)}`).join("&");

const FIELDS = [
  `Authorization: Bearer ${secret("authorization")}`,
  `Proxy-Authorization: Basic ${secret("proxy-authorization")}`,
  `Cookie: session=${secret("cookie")}`,
  `X-Api-Key: ${secret("field")}`,
  `Referer: https://user:${secret("referer")}@a.example/?sig=${secret("referer-query")}`,
  `X-Forwarded-For: ${secret("forwarded-for")}`,
  `Traceparent: ${secret("traceparent")}`,
].join("\r\n");

const ANSWER_FIELDS = [
  `Set-Cookie: session=${secret("set-cookie")}`,
  `WWW-Authenticate: Basic realm="${secret("www-authenticate")}"`,
  `Authentication-Info: ${secret("authentication-info")}`,
  `Location: https://user:${secret("location")}@b.example/?sig=${secret("location-query")}`,
].join("\r\n");

/** Does what a careless plugin does: fails with what it holds in its hands, in every way, and at last as a crash. */
const CARELESS = `
import { definePlugin } from "PLUGIN";
export default definePlugin({
  name: "careless",
  apiVersion: 1,
  description: "Fails with secrets at hand",
  config: { token: { default: "", format: String, sensitive: true, env: "CARELESS_TOKEN", doc: "A token." } },
  setup: () => ({
    exchange: () => ({
      request(head) {
        const [path, query] = head.target.split("?");
        const held = () => Object.assign(new TypeError("held"), {
          input: "https://user:${secret("error-input")}@a/",
          rawPacket: Buffer.from("Cookie: ${secret("error-bytes")}"),
          headers: { cookie: "${secret("error-fields")}" },
        });
        if (path === "/target") head.target = "no path?" + query;
        if (path === "/value") head.headers.set("X-Copy", head.headers.get("cookie") + "\\n");
        if (path === "/authority") head.authority = "user:${secret("authority")}@a";
        if (path === "/throw") throw held();
        if (path === "/reject") return Promise.reject(held());
        if (path === "/crash") setImmediate(() => { throw held(); });
        if (path === "/reply") return { status: 200, headers: [["Set-Cookie", "${secret("reply-cookie")}"]], body: "${secret("reply-body")}" };
      },
    }),
  }),
});
`;

/** The places whose secret the text shows: as it is, or as bytes in hexadecimal, decimal or base64. */
function shown(text: string): string[] {
  const places = Array.from(text.matchAll(new RegExp(`${MARK}-([\\w-]*)`, "gi")), ([, place = ""]) => place);
  const bytes = Buffer.from(MARK);
  const forms = [bytes.toString("hex"), [...bytes].join(","), [...bytes].join(", ")];
  // Whatever stands before them, some of their base64 stays the same.
  for (const before of ["", "_", "__"]) forms.push(Buffer.from(`${before}${MARK}`).toString("base64").slice(4, 8));
  return [...new Set([...places, ...forms.filter((form) => text.includes(form))])];
}

test("the search finds a secret in every form", () => {
  const text = `Cookie: ${secret("here")}`;
  assert.deepEqual(shown(text), ["here-xxxxxxxx"]);
  for (const before of ["", "a", "ab", "abc"]) {
    const bytes = Buffer.from(before + text);
    for (const form of [bytes.toString("hex"), JSON.stringify(bytes), bytes.toString("base64")]) {
      assert.notDeepEqual(shown(form), [], form);
    }
  }
});

for (const forwarder of FORWARDERS) {
  test(`${forwarder}: no secret is logged, traced, counted or told`, async (t) => {
    const collector = new Collector(t);
    const endpoint = await collector.listen();
    const plugin = CARELESS.replace("PLUGIN", new URL("../../src/plugin/api.ts", import.meta.url).href);
    const origin = await rawOrigin(t, ({ socket }, head) => {
      const path = /^\S+ (\/[\w-]*)/.exec(head)?.[1] ?? "";
      switch (path) {
        case "/bad-status":
          return void socket.write(`HTTP/1.1 2x0 ${secret("reason")}\r\nSet-Cookie: ${secret("bad-status")}\r\n\r\n`);
        case "/bad-field":
          return void socket.write(`HTTP/1.1 200 OK\r\nSet-Cookie: ${secret("bad-field")}\u0001\r\n\r\n`);
        case "/no-http":
          return void socket.write(`${secret("no-http")}\r\n\r\n`);
        case "/big-head":
          return void socket.write(`HTTP/1.1 200 OK\r\nSet-Cookie: ${secret("big").repeat(8000)}\r\n\r\n`);
        case "/bad-chunk":
          return void socket.end(
            `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n${ANSWER_FIELDS}\r\n\r\n${secret("chunk")}\r\n`,
          );
        case "/cut":
          return void socket.end(`HTTP/1.1 200 OK\r\nContent-Length: 999\r\n${ANSWER_FIELDS}\r\n\r\n${secret("cut")}`);
        case "/close":
          return void socket.destroy();
        default: {
          const body = secret("body");
          const fields = `Content-Length: ${body.length}\r\n${ANSWER_FIELDS}`;
          socket.write(`HTTP/1.1 ${path === "/denied" ? 401 : 200} OK\r\n${fields}\r\n\r\n${body}`);
        }
      }
    });
    const sidecar = await runSidecar(
      t,
      {
        forwarder,
        inbound: { listen: "127.0.0.1:0", upstream: origin.url },
        outbound: { listen: "127.0.0.1:0" },
        admin: { listen: "127.0.0.1:0", probes: "127.0.0.1:0" },
        backends: { spare: { address: "127.0.0.1", port: 1 } },
        plugins: [{ use: "keep-alive" }, { use: "./careless.mjs", config: { token: secret("plugin-config") } }],
        log: { level: "trace" },
        telemetry: { otlp: { protocol: "http/json" }, metrics: { otlp: true, otlpInterval: "1s" } },
      },
      {
        env: {
          HOLDFAST_ADMIN_TOKEN: secret("admin-token"),
          OTEL_SDK_DISABLED: "false",
          OTEL_BSP_SCHEDULE_DELAY: "10",
          OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${endpoint}/v1/traces`,
          // Nobody is there, so it is complained about.
          OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `http://user:${secret("endpoint")}@127.0.0.1:1/?api_key=${secret("endpoint-query")}`,
          OTEL_EXPORTER_OTLP_HEADERS: `authorization=${secret("otlp-header")}`,
        },
        files: { "careless.mjs": plugin },
      },
    );
    const through = sidecar.outbound;
    const { host } = new URL(origin.url);

    /** Sends exact bytes on a connection of its own, and waits until it is over. */
    const send = async (url: string, text: string): Promise<string> => {
      const peer = await RawPeer.connect(t, url);
      peer.send(text);
      return await peer.untilEnd();
    };
    const request = (target: string, authority = host, fields = FIELDS, body = ""): string =>
      `POST ${target} HTTP/1.1\r\nHost: ${authority}\r\n${fields}\r\nConnection: close\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body}`;

    const targets = [
      "/ok",
      "/denied",
      "/bad-status",
      "/bad-field",
      "/no-http",
      "/big-head",
      "/bad-chunk",
      "/cut",
      "/close",
      "/target",
      "/value",
      "/authority",
      "/throw",
      "/reject",
      "/reply",
    ];
    for (const target of targets) {
      assert.match(
        await send(sidecar.inbound, request(`${target}?${QUERY}`, host, FIELDS, `${secret("request-body")}\r\n\r\n`)),
        /^HTTP/,
      );
    }
    // What is refused before it is an exchange, with the secret where the fault is.
    const refused = [
      request(`http://user:${secret("userinfo")}@${host}/?${QUERY}`),
      request("/", `user:${secret("host")}@${host}`),
      `CONNECT user:${secret("connect")}@${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      request(`/${secret("fragment")}#${secret("fragment")}`),
      request("/", host, `Authorization: ${secret("control")}\u0001`),
      request("/", host, `${secret("name")} : a`),
      request("/", host, `Cookie: ${secret("bare-lf")}\nX: y`),
      request("/", host, `Expect: ${secret("expect")}`),
      request("/", host, `Transfer-Encoding: ${secret("coding")}`),
      request("/", host, `Cookie: ${secret("big").repeat(8000)}`),
      request(`/?sig=${secret("long").repeat(8000)}`),
      `${secret("method")}\u0000 / HTTP/1.1\r\n\r\n`,
      `GET / ${secret("version")}\r\n\r\n`,
      `POST / HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n${secret("chunk-size")}\r\n`,
      `POST / HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n1;${secret("extension")}\u0001\r\na\r\n0\r\n\r\n`,
    ];
    for (const url of [sidecar.inbound, through]) {
      for (const text of refused)
        assert.match(await send(url, text), /^HTTP\/1\.1 [45]/, JSON.stringify(text.slice(0, 99)));
    }
    assert.match(await send(through, request(`http://127.0.0.1:1/?${QUERY}`)), /^HTTP\/1\.1 502/);
    assert.match(await send(through, request(`http://nowhere.invalid/?${QUERY}`)), /^HTTP\/1\.1 50/);
    assert.match(await send(through, request(`/ok?${QUERY}`)), /^HTTP\/1\.1 200/);

    const headers = { authorization: `Bearer ${secret("admin-token")}` };
    const told: string[] = [];
    for (const path of ["/config", "/plugins", "/connections", "/metrics", "/backends", "/log-level"]) {
      const answer = await fetch(`${sidecar.admin}${path}`, { headers });
      assert.equal(answer.status, 200, path);
      told.push(await answer.text());
    }
    for (const path of ["/config", `/nope?sig=${secret("admin-query")}`, `/connections?${secret("admin-key")}=1`]) {
      await (await fetch(`${sidecar.admin}${path}`, { headers: { authorization: secret("wrong-token") } })).text();
    }
    assert.deepEqual(shown(told.join("\n")), []);

    await send(sidecar.inbound, request(`/crash?${QUERY}`)).catch(() => {});
    const { code, log, stderr } = await sidecar.ended();
    assert.equal(code, 1, "it crashed");
    assert.ok(log.some(({ msg }) => msg === "uncaught exception"));
    assert.ok(log.filter(({ part }) => part === "access").length > targets.length);
    assert.ok(log.some(({ msg }) => String(msg).startsWith("plugin careless failed")));
    assert.deepEqual(shown(log.map((line) => JSON.stringify(line)).join("\n")), []);
    assert.deepEqual(shown(stderr), []);
    const exports = collector.of("/v1/traces").map(({ body }) => body.toString("latin1"));
    assert.match(exports.join("\n"), /X-Amz-Signature=REDACTED/, "spans were recorded");
    assert.deepEqual(shown(exports.join("\n")), []);
  });
}

test("what is wrong with a configuration is told without its secrets", async (t: TestContext) => {
  const { holdfast } = await import("./program.ts");
  const { folderWith } = await import("../config/folder.ts");
  const admin = { listen: "0.0.0.0:0", token: secret("short").slice(0, 12) };
  const inbound = { upstream: `http://user:${secret("upstream")}@127.0.0.1:8080/?sig=${secret("upstream-query")}` };
  for (const content of [
    { service: "orders", inbound, admin },
    `{ "service": "orders", "admin": { "token": "${secret("broken")}" `,
    `{ "service": "orders", "admin": { "token": "${secret("twice")}", "token": "${secret("twice")}" } }`,
    `{ "service": "orders", "admin": { "token": ["${secret("list")}"], "tokne": "${secret("typo")}" } }`,
  ]) {
    const folder = folderWith(t, { "sidecar.json": content });
    for (const command of ["check", "run"]) {
      const { code, stdout, stderr } = await holdfast(t, [command, "-c", `${folder}/sidecar.json`]).ended();
      assert.equal(code, 2);
      assert.deepEqual(shown(stdout + stderr), [], stdout + stderr);
    }
  }
});
