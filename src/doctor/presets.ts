/**
 * Every preset.
 *
 * @module
 */
import type { Preset } from "./preset.ts";
import { BALANCERS } from "./presets-balancers.ts";
import { PROXIES } from "./presets-proxies.ts";
import { SERVICES } from "./presets-services.ts";

/** Something of which nothing is known but what is said on the command line. */
const OTHER: Preset = {
  name: "other",
  title: "anything else; say what it does: `other:name=billing,downstream.idle=30s`",
  sources: [],
  downstream: {},
  upstream: {},
  settings: {
    downstreamIdle: "idle timeout of incoming connections: {d}",
    downstreamMaxRequests: "requests per incoming connection: {n}",
    downstreamTcpKeepAlive: "TCP keepalive time of incoming connections: {d}",
    downstreamKeepAlive: "keep-alive of incoming connections: on",
    upstreamIdle: "idle timeout of outgoing connections: {d}",
    upstreamMaxRequests: "requests per outgoing connection: {n}",
    upstreamMaxAge: "age of outgoing connections: {d}",
    upstreamTcpKeepAlive: "TCP keepalive time of outgoing connections: {d}",
    upstreamKeepAlive: "keep-alive of outgoing connections: on",
    deregistration: "deregistration delay: {d}",
    drain: "time to finish what is in flight: {d}",
  },
};

/** Every preset, by name. */
export const PRESETS: ReadonlyMap<string, Preset> = new Map(
  [...BALANCERS, ...PROXIES, ...SERVICES, OTHER].map((preset) => [preset.name, preset]),
);
