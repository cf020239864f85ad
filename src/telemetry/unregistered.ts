/**
 * Keeps the OpenTelemetry API's process-wide registrations out of our reach.
 *
 * @module
 */

/** Where `@opentelemetry/api` 1.x keeps what is registered, for every copy of it in the process. */
const REGISTRY = Symbol.for("opentelemetry.js.api.1");

/** Every place is taken, so the API refuses each registration; without a version it reads nothing from here either. */
const FULL_REGISTRY = Object.freeze({ context: {}, logs: {}, metrics: {}, propagation: {}, trace: {} });

/**
 * Runs something that would register itself with the OpenTelemetry API, and lets it register nothing: what the
 * application registered stays in use, and what it registers later is not refused.
 *
 * To let it register and to call `trace.disable()` and the like afterwards would not do: tracers that the application
 * already holds would stay bound to the wrong provider.
 *
 * @param start - must be done when it returns: other code must not run meanwhile
 */
export function withoutRegistering<T>(start: () => T): T {
  const registry = Object.getOwnPropertyDescriptor(globalThis, REGISTRY);
  Object.defineProperty(globalThis, REGISTRY, { value: FULL_REGISTRY, writable: true, configurable: true });
  try {
    return start();
  } finally {
    if (registry === undefined) Reflect.deleteProperty(globalThis, REGISTRY);
    else Object.defineProperty(globalThis, REGISTRY, registry);
  }
}
