/**
 * What one would write in Node.js in an afternoon: http-proxy-3 alone, and node:http with undici.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Upstream } from "../origin/origin.ts";
import type { Peer, PeerName } from "./peer.ts";

const ROOT = path.join(import.meta.dirname, "..", "..");

/** What the process of such a proxy is started with. */
export interface NodeProxySettings {
  readonly port: number;
  readonly upstream: Upstream;
}

/** http-proxy-3 with a keep-alive agent and nothing else. */
export const httpProxy3: Peer = nodeProxy("http-proxy-3", "http-proxy-3", "http-proxy-3-proxy.ts");
/** node:http in front, undici behind. */
export const undici: Peer = nodeProxy("undici", "undici", "undici-proxy.ts");

function nodeProxy(name: PeerName, dependency: string, file: string): Peer {
  return {
    name,
    label: name,
    debianPackage: undefined,
    async version() {
      const description = readFileSync(path.join(ROOT, "node_modules", dependency, "package.json"), "utf8");
      return (JSON.parse(description) as { version: string }).version;
    },
    prepare({ port, upstream }) {
      const settings: NodeProxySettings = { port, upstream };
      return { command: [process.execPath, path.join(import.meta.dirname, file), JSON.stringify(settings)] };
    },
  };
}
