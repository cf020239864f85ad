/**
 * What carries exchanges over accepted connections.
 *
 * @module
 */

import type { ForwarderName } from "../config/sidecar-config.ts";
import type { ProxyConnection } from "./connection.ts";
import type { ExchangeSurroundings } from "./exchange.ts";

/** Reads requests from downstream connections, runs each as an exchange, writes responses. */
export interface Forwarder {
  readonly name: ForwarderName;
  /** Takes over an accepted downstream connection that is already shown to the filters. */
  accept(connection: ProxyConnection): void;
  /** A request head did not arrive in time: answer 408 if anything of it came, and close. */
  refuseSlowHead(connection: ProxyConnection): void;
}

/** Makes the forwarder of one direction. */
export type ForwarderFactory = (around: ExchangeSurroundings) => Forwarder;
