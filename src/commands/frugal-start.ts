/**
 * V8 while `holdfast run` starts. Nearly all of what runs then runs once. Optimizing it, and enlarging the young
 * generation of the heap for it, would cost 15 to 25 MB that a sidecar with little traffic never gives back. So both
 * wait until everything is loaded.
 *
 * @module
 */
import { setFlagsFromString } from "node:v8";

/** What V8 reads each time it decides, and its own settings of them. */
const FLAGS = [
  { starting: "--no-opt", afterwards: "--opt" },
  { starting: "--no-maglev", afterwards: "--maglev" },
  { starting: "--semi-space-growth-factor=1", afterwards: "--semi-space-growth-factor=2" },
] as const;

/**
 * The modules of Node.js that every sidecar loads before it is ready. Node.js brings compiled code of its own modules
 * along, which V8 takes only under the flags that it was made with: loaded after they are set, each would be compiled
 * anew, 20 ms for all of them.
 */
const NODE_MODULES = [
  "assert",
  "cluster",
  "crypto",
  "dns",
  "fs/promises",
  "http",
  "perf_hooks",
  "process",
  "timers/promises",
  "tty",
  "worker_threads",
];

/** Options of Node.js that set the same, or that must not be undone. */
const SET_BY_USER =
  /--(?:no[-_]?)?(?:opt|maglev|turbofan|jitless|lite[-_]mode|semi[-_]space[-_]growth[-_]factor)(?![-_\w])/;

/**
 * Holds V8 back from now on.
 *
 * @param options - those that Node.js was started with, `NODE_OPTIONS` among them: what is set there is left alone
 * @returns lets V8 work as it always does; to be called once everything is loaded
 */
export function startFrugally(options: readonly string[]): () => void {
  if (options.some((option) => SET_BY_USER.test(option))) return () => {};
  // Not by import, which reads every export of them: see node-http.ts.
  for (const name of NODE_MODULES) process.getBuiltinModule(name);
  for (const { starting } of FLAGS) setFlagsFromString(starting);
  return () => {
    for (const { afterwards } of FLAGS) setFlagsFromString(afterwards);
  };
}
