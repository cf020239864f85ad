import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { createLog, errorFields, withoutCredentials } from "../src/log.ts";
import { type LogDestination, openLogDestination } from "../src/log-destination.ts";
import { folderWith } from "./config/folder.ts";

class Lines implements LogDestination {
  readonly lines: string[] = [];
  readonly dropped = 0;
  write(line: string): void {
    this.lines.push(line);
  }
  flush(): Promise<void> {
    return Promise.resolve();
  }
}

test("lines are JSON with the level as a word and the service's name", () => {
  const destination = new Lines();
  const log = createLog({ level: "info", destination, service: "orders" });
  log.info({ connection: 7 }, "reused");
  log.debug({}, "not written");
  assert.equal(destination.lines.length, 1);
  const { time, ...line } = JSON.parse(destination.lines[0]!);
  assert.deepEqual(line, { level: "info", service: "orders", connection: 7, msg: "reused" });
  assert.ok(!Number.isNaN(Date.parse(time)));
});

test("on a terminal lines are readable", () => {
  const destination = new Lines();
  createLog({ level: "info", destination, pretty: true }).info({ connection: 7 }, "reused");
  assert.match(destination.lines.join(""), /INFO.*reused/);
  assert.throws(() => JSON.parse(destination.lines.join("")));
});

test("loggers made before a change of level follow it, and it alone", () => {
  const destination = new Lines();
  const log = createLog({ level: "info", destination });
  const child = log.child({ plugin: "keep-alive" });
  const grandchild = child.child({ direction: "inbound" });
  log.level = "debug";
  child.debug({}, "child");
  grandchild.debug({}, "grandchild");
  log.level = "silent";
  for (const each of [log, child, grandchild]) each.error({}, "not written");
  assert.deepEqual(
    destination.lines.map((line) => JSON.parse(line).msg),
    ["child", "grandchild"],
  );
});

test("a URL is logged without its credentials", () => {
  const destination = new Lines();
  const log = createLog({ level: "info", destination });
  log.info({ url: "http://user:hunter2@host/path", target: "http://user@host/a?b=c@d" }, "m");
  log.child({ part: "x" }).info({ url: "//user:hunter2@host" }, "m");
  const [first, second] = destination.lines.map((line) => JSON.parse(line));
  assert.equal(first.url, "http://***@host/path");
  assert.equal(first.target, "http://***@host/a?b=c@d");
  assert.equal(second.url, "//***@host");
  assert.equal(withoutCredentials("/path?mail=a@b"), "/path?mail=a@b");
  assert.equal(withoutCredentials("http://host/a@b"), "http://host/a@b");
});

test("an error is logged with what led to it, and without what else hangs on it", () => {
  const destination = new Lines();
  const log = createLog({ level: "info", destination });
  const cause = Object.assign(new Error("connect http://me:pw@a.example/ failed"), {
    code: "ECONNREFUSED",
    errno: -111,
  });
  const error = Object.assign(new TypeError("no URL", { cause }), {
    input: "http://me:pw@b",
    rawPacket: Buffer.from("pw"),
  });
  log.error({ err: error }, "failed");
  const { err } = JSON.parse(destination.lines[0]!);
  assert.deepEqual(Object.keys(err), ["type", "message", "stack", "cause"]);
  assert.equal(err.type, "TypeError");
  assert.match(err.stack, /^TypeError: no URL\n +at /);
  assert.equal(err.cause.message, "connect http://***@a.example/ failed");
  assert.equal(err.cause.code, "ECONNREFUSED");
  assert.doesNotMatch(destination.lines.join(""), /pw|errno/);
});

test("whatever is thrown can be logged, however long the chain that led to it", () => {
  assert.deepEqual(errorFields("boom"), { type: "string", message: "boom" });
  assert.deepEqual(errorFields({ cookie: "a=b" }), { type: "object", message: "" });
  assert.deepEqual(errorFields(undefined), { type: "undefined", message: "" });
  const several = errorFields(new AggregateError([new Error("one"), "two"], "both"));
  assert.deepEqual(
    several.errors?.map(({ message }) => message),
    ["one", "two"],
  );
  const loop = new Error("loop");
  loop.cause = loop;
  assert.ok(JSON.stringify(errorFields(loop)).length < 50_000);
});

test("a file gets every line in its order", async (t) => {
  const file = path.join(folderWith(t, { log: "" }), "log");
  const fd = openSync(file, "a");
  const destination = openLogDestination(fd);
  const expected = Array.from({ length: 1000 }, (_, index) => `line ${index}\n`);
  for (const line of expected) destination.write(line);
  await destination.flush(10_000);
  closeSync(fd);
  assert.equal(readFileSync(file, "utf8"), expected.join(""));
  assert.equal(destination.dropped, 0);
});

test("a full disk drops lines and counts them", async () => {
  // /dev/full answers every write with ENOSPC.
  const fd = openSync("/dev/full", "w");
  const destination = openLogDestination(fd);
  for (let index = 0; index < 10; index++) destination.write("line\n");
  await destination.flush(10_000);
  closeSync(fd);
  assert.equal(destination.dropped, 10);
});

/** Starts a process whose standard output is a pipe, and that logs there with the code given. */
function logging(code: string) {
  const destination = JSON.stringify(new URL("../src/log-destination.ts", import.meta.url).href);
  const script = `import { openLogDestination } from ${destination}; const out = openLogDestination(1); ${code}`;
  return spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
}

test("a pipe that nobody reads takes a bounded amount, and does not keep the process from exiting", async (t) => {
  const child = logging(`
    const line = "x".repeat(1023) + "\\n";
    for (let index = 0; index < 5000; index++) out.write(line);
    setImmediate(() => { process.stderr.write(String(out.dropped)); process.exit(7); });`);
  t.after(() => child.kill("SIGKILL"));
  child.stdout.pause();
  let dropped = "";
  child.stderr.on("data", (text) => {
    dropped += text;
  });
  const [[code]] = await Promise.all([once(child, "exit"), once(child.stderr, "end")]);
  assert.equal(code, 7);
  assert.ok(Number(dropped) > 3000 && Number(dropped) < 5000, dropped);
});

test("a pipe whose reader went away drops lines and does not end the process", async (t) => {
  const child = logging(`
    process.on("SIGUSR2", async () => {
      for (let index = 0; index < 10; index++) { out.write("later\\n"); await out.flush(1000); }
      process.stderr.write(String(out.dropped)); process.exit(7);
    });
    out.write("first\\n");
    setInterval(() => {}, 1000);`);
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  child.stdout.destroy();
  await once(child.stdout, "close");
  child.kill("SIGUSR2");
  let dropped = "";
  child.stderr.on("data", (text) => {
    dropped += text;
  });
  const [code] = await once(child, "close");
  assert.equal(code, 7);
  assert.equal(dropped, "10");
});
