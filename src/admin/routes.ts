/**
 * The admin API: every route, one function each. docs/admin/ has a page per route.
 *
 * @module
 */
import type { EffectiveValue } from "../config/load.ts";
import type { Logger } from "../plugin/api.ts";
import type { LiveBackend } from "../proxy/backends.ts";
import { backendBody, parseBackendBody } from "./backend-body.ts";
import { objectWith } from "./body.ts";
import { listConnections } from "./connections.ts";
import { listOrigins } from "./origins.ts";
import { AdminError, type AdminRequest, type Answer, json, type Route } from "./route.ts";
import type { LogLevel, ReloadView, SidecarView } from "./view.ts";

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const satisfies readonly LogLevel[];
const MASK = "***";
/** A plugin has 30 s to set up, in each direction. */
const RELOAD_ANSWER_MS = 70_000;

/** The route table. */
export function adminRoutes(view: SidecarView, log: Logger): readonly Route[] {
  function healthz(): Answer {
    return json(200, { status: "ok" });
  }

  function readyz(): Answer {
    const ready = view.ready();
    return json(ready ? 200 : 503, { ready, state: view.state });
  }

  async function metrics(): Promise<Answer> {
    const text = await view.prometheusText();
    if (text === undefined) {
      throw new AdminError(404, "Prometheus metrics are off; set telemetry.metrics.prometheus to true");
    }
    return { status: 200, ...text };
  }

  function config(): Answer {
    return json(200, { service: view.service, version: view.version, values: view.values.map(shown) });
  }

  function plugins(): Answer {
    const list = view.plugins.map(({ name, description, use, directions, onError, config: values }) => {
      return { name, description, use, directions, onError, config: values.map(shown) };
    });
    return json(200, { plugins: list });
  }

  function connections({ query }: AdminRequest): Answer {
    return json(200, listConnections(view.connections(), query));
  }

  function origins(): Answer {
    return json(200, listOrigins(view.origins(), view.callers()));
  }

  function getLogLevel(): Answer {
    return json(200, { level: view.logLevel });
  }

  function putLogLevel({ body }: AdminRequest): Answer {
    const { level } = objectWith(body, ["level"]);
    const wanted = LOG_LEVELS.find((known) => known === level);
    if (wanted === undefined) {
      throw new AdminError(400, `must be one of ${LOG_LEVELS.join(", ")}`, { field: "level", allowed: LOG_LEVELS });
    }
    const before = view.logLevel;
    view.logLevel = wanted;
    log.info({ before, level: wanted }, "admin: log level changed");
    return getLogLevel();
  }

  function drain(): Answer {
    if (view.state !== "draining" && view.state !== "stopped") log.info({}, "admin: drain requested");
    view.drain().catch((error: unknown) => log.error({ err: error }, "admin: drain failed"));
    return json(202, { draining: true });
  }

  function lastReload(): Answer {
    return json(200, { last: view.lastReload === undefined ? null : reloadBody(view.lastReload) });
  }

  async function reload(): Promise<Answer> {
    const report = await view.reload();
    if (report.result === "applied") return json(200, reloadBody(report));
    const error = { field: null, message: report.faults.join("; "), allowed: null };
    return json(refusalStatus(report.result), { error, ...reloadBody(report) });
  }

  function backends(): Answer {
    return json(200, { backends: view.backends.names().map((name) => describeBackend(backendNamed(name))) });
  }

  function getBackend({ name }: AdminRequest): Answer {
    return json(200, describeBackend(backendNamed(name)));
  }

  function putBackend({ name, body }: AdminRequest): Answer {
    backendNamed(name);
    const patch = parseBackendBody(body);
    const backend = view.backends.update(name, patch);
    log.info({ backend: name, change: body }, "admin: backend changed");
    return json(200, describeBackend(backend));
  }

  function backendNamed(name: string): LiveBackend {
    const backend = view.backends.get(name);
    if (backend !== undefined) return backend;
    throw new AdminError(404, `no backend is named ${JSON.stringify(name)}`, {
      field: "name",
      allowed: view.backends.names(),
    });
  }

  function describeBackend(backend: LiveBackend): object {
    return backendBody(backend, view.pools());
  }

  return [
    { method: "GET", path: "/healthz", audience: "anyone", handle: healthz },
    { method: "GET", path: "/readyz", audience: "anyone", handle: readyz },
    { method: "GET", path: "/metrics", audience: "scraper", handle: metrics },
    { method: "GET", path: "/config", audience: "operator", handle: config },
    { method: "GET", path: "/plugins", audience: "operator", handle: plugins },
    { method: "GET", path: "/connections", audience: "operator", handle: connections },
    { method: "GET", path: "/origins", audience: "operator", handle: origins },
    { method: "GET", path: "/log-level", audience: "operator", handle: getLogLevel },
    { method: "PUT", path: "/log-level", audience: "operator", handle: putLogLevel },
    { method: "POST", path: "/drain", audience: "operator", handle: drain },
    { method: "GET", path: "/reload", audience: "operator", handle: lastReload },
    { method: "POST", path: "/reload", audience: "operator", handle: reload, answerMs: RELOAD_ANSWER_MS },
    { method: "GET", path: "/backends", audience: "operator", handle: backends },
    { method: "GET", path: "/backends/{name}", audience: "operator", handle: getBackend },
    { method: "PUT", path: "/backends/{name}", audience: "operator", handle: putBackend },
  ];
}

function reloadBody({ result, trigger, atEpochMs, changed, faults }: ReloadView): object {
  return { result, trigger, at: new Date(atEpochMs).toISOString(), changed, faults };
}

/** 422: what the file says cannot be used. 409: it could be, but not by this process as it is now. */
function refusalStatus(result: Exclude<ReloadView["result"], "applied">): number {
  switch (result) {
    case "invalid":
    case "failed":
      return 422;
    case "needs_restart":
    case "draining":
      return 409;
  }
}

function shown({ key, value, source, variable, secret }: EffectiveValue): object {
  return { key, value: secret && value !== null ? MASK : value, source, variable };
}
