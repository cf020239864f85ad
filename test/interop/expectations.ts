/** What every client must get, and what nginx must see of it. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestSidecar } from "../../src/testing.ts";
import type { Nginx, NginxRequest } from "./nginx.ts";

/** One line that a client program printed. */
export interface Answer {
  readonly call: string;
  readonly status: number;
  readonly body: string;
  /** What nginx had received as body; `null` where it was not asked. */
  readonly echoed: string | null;
}

/** Answers of nginx by call. */
const BODIES: Readonly<Record<string, string>> = {
  "GET /one": "GET /one\n",
  "HEAD /two": "",
  "POST /echo": "taken\n",
  "DELETE /three?q=1": "DELETE /three?q=1\n",
  "GET /four": "GET /four\n",
};

/** The lines of JSON that a client program printed. */
export function answersIn(output: string): Answer[] {
  return output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
}

/**
 * Every call got the answer that nginx gives without anyone between.
 *
 * @param echoed - the bodies posted, in order
 */
export function assertAnswers(answers: readonly Answer[], count: number, echoed: readonly string[]): void {
  assert.equal(answers.length, count);
  for (const { call, status, body } of answers) {
    assert.equal(status, 200, call);
    assert.equal(body, BODIES[call], call);
  }
  const posts = answers.filter(({ call }) => call.startsWith("POST"));
  assert.deepEqual(
    posts.map((answer) => answer.echoed),
    echoed,
  );
}

/** nginx saw these calls in order on one connection, without a hop-by-hop field of the client. */
export async function assertOneConnection(nginx: Nginx, calls: readonly Answer[]): Promise<NginxRequest[]> {
  const requests = await nginx.logged(calls.length);
  assert.deepEqual(
    requests.map(({ method, target }) => `${method} ${target}`),
    calls.map(({ call }) => call),
  );
  assert.equal(new Set(requests.map(({ connection }) => connection)).size, 1, "connections at nginx");
  assert.deepEqual(
    requests.map(({ index }) => index),
    calls.map((_, at) => at + 1),
  );
  for (const { fields, version } of requests) {
    assert.equal(version, "HTTP/1.1");
    assert.equal(fields.upgrade, "");
    assert.equal(fields.http2Settings, "");
    assert.equal(fields.proxyConnection, "");
    assert.match(fields.via, /^1\.[01] holdfast-test-/);
  }
  return requests;
}

/** Resolves with how many connections from callers carried this many exchanges, by the access log. */
export async function downstreamConnections(sidecar: TestSidecar, exchanges: number): Promise<number> {
  for (;;) {
    const lines = sidecar.log.filter(({ part }) => part === "access");
    if (lines.length >= exchanges) {
      return new Set(lines.map(({ downstream }) => (downstream as { id: number }).id)).size;
    }
    await sleep(2);
  }
}
