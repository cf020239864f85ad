/**
 * What the proxies forward to: nginx, the cheapest there is, else Node.js.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { answered } from "../answered.ts";
import { freePort } from "../ports.ts";
import { type Running, start } from "../processes.ts";
import { hasProgram, programVersion } from "../programs.ts";
import { LARGE, type OriginRequest, receipt, SMALL } from "./answers.ts";
import { writeNginxConfiguration } from "./nginx.ts";

const execute = promisify(execFile);

/** Where an origin listens. */
export interface Upstream {
  readonly scheme: "http" | "https";
  readonly host: "127.0.0.1";
  readonly port: number;
  /** PEM file of the authority to trust; set exactly for `https`. */
  readonly ca: string | undefined;
}

/** The name in the origin's certificate. */
export const SERVER_NAME = "localhost";

/** A running origin. */
export interface Origin {
  /** Program and version. */
  readonly title: string;
  readonly http: Upstream;
  /** `undefined`: there is no openssl to make a certificate with. */
  readonly https: Upstream | undefined;
  /** The body that it answers with. */
  answer(request: OriginRequest): Uint8Array;
  stop(): Promise<void>;
}

/** What both kinds of origin are made from. */
export interface OriginSettings {
  readonly folder: string;
  readonly port: number;
  readonly tls: OriginTls | undefined;
}

interface OriginTls {
  readonly port: number;
  readonly key: string;
  readonly cert: string;
}

/**
 * Starts the origin.
 *
 * @param hasReceipts - whether POST must be answered with what arrived, which takes the one on Node.js
 */
export async function startOrigin(parent: string, core: number | undefined, hasReceipts: boolean): Promise<Origin> {
  const folder = path.join(parent, "origin");
  mkdirSync(folder);
  const settings = { folder, port: await freePort(), tls: await makeTls(folder) };
  const isNginx = !hasReceipts && hasProgram("nginx");
  const running = isNginx ? startNginx(settings, core) : startNode(settings, core);
  await answered(settings.port, running);
  return {
    title: isNginx ? `nginx ${await programVersion("nginx", "-v")}` : `Node.js ${process.versions.node}`,
    http: { scheme: "http", host: "127.0.0.1", port: settings.port, ca: undefined },
    https: settings.tls && { scheme: "https", host: "127.0.0.1", port: settings.tls.port, ca: settings.tls.cert },
    answer({ method, path: target, body }) {
      if (target === "/large") return LARGE;
      return method === "POST" && !isNginx ? receipt(body) : SMALL;
    },
    stop: () => running.stop(),
  };
}

function startNginx(settings: OriginSettings, core: number | undefined): Running {
  const file = writeNginxConfiguration(settings);
  return start({
    name: "origin",
    command: ["nginx", "-p", settings.folder, "-c", file],
    folder: settings.folder,
    core,
  });
}

function startNode(settings: OriginSettings, core: number | undefined): Running {
  const main = path.join(import.meta.dirname, "node-origin.ts");
  const command = [process.execPath, main, JSON.stringify(settings)];
  return start({ name: "origin", command, folder: settings.folder, core });
}

async function makeTls(folder: string): Promise<OriginTls | undefined> {
  if (!hasProgram("openssl")) return undefined;
  const key = path.join(folder, "key.pem");
  const cert = path.join(folder, "cert.pem");
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  const names = ["-subj", `/CN=${SERVER_NAME}`, "-addext", `subjectAltName=DNS:${SERVER_NAME},IP:127.0.0.1`];
  await execute("openssl", [...request, ...names, "-keyout", key, "-out", cert]);
  return { port: await freePort(), key, cert };
}
