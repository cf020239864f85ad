/**
 * Every peer that `--peers` selects from, in the order of the tables.
 *
 * @module
 */
import { caddy } from "./caddy.ts";
import { haproxy } from "./haproxy.ts";
import { holdfast, holdfastHttpProxy3, holdfastTraced } from "./holdfast.ts";
import { nginx } from "./nginx.ts";
import { httpProxy3, undici } from "./node-proxies.ts";
import type { Peer } from "./peer.ts";

export const ALL_PEERS: readonly Peer[] = [
  holdfast,
  holdfastTraced,
  holdfastHttpProxy3,
  nginx,
  haproxy,
  caddy,
  httpProxy3,
  undici,
];

/** All but the one that differs from another only by its traces. */
export const ALL_BUT_TRACED: readonly Peer[] = ALL_PEERS.filter((peer) => peer !== holdfastTraced);
