/**
 * The sidecar.json of each sidecar in the demo.
 *
 * @module
 */

const PLUGINS = [
  { use: "keep-alive" },
  { use: "tcp-keepalive" },
  { use: "idle-timeout" },
  { use: "connection-limits" },
  { use: "connection-close-on-logout", config: { match: [{ method: "POST", path: "/logout" }] } },
];

/** A free port, so that the demo runs beside anything. */
const LISTEN = "127.0.0.1:0";

const COMMON = {
  admin: { listen: LISTEN },
  plugins: PLUGINS,
  telemetry: { traces: { exporters: ["console"] } },
  log: { level: "info", access: false },
  drain: { deadline: "5s", idleGrace: "0s" },
};

/** @param port - of the service `inventory` */
export function inventoryConfig(port: number): object {
  return { service: "inventory", inbound: { listen: LISTEN, upstream: `http://127.0.0.1:${port}` }, ...COMMON };
}

/**
 * @param port - of the service `orders`
 * @param inventory - URL of the inbound listener of the sidecar beside `inventory`
 */
export function ordersConfig(port: number, inventory: string): object {
  return {
    service: "orders",
    inbound: { listen: LISTEN, upstream: `http://127.0.0.1:${port}` },
    outbound: {
      listen: LISTEN,
      routes: [{ host: "inventory.internal", upstream: inventory }],
      unmatched: "deny",
    },
    ...COMMON,
  };
}
