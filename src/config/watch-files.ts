/**
 * Noticing that files changed.
 *
 * @module
 */
import { type FSWatcher, unwatchFile, watch, watchFile } from "node:fs";
import path from "node:path";

/** How long files must have been quiet before they are read: what belongs together is rarely written at one instant. */
const QUIET_MS = 200;

/** Where something is written all the time, such as a log beside them, they are read after this long all the same. */
const PATIENCE_MS = 2000;

/**
 * How often files are looked at where nobody tells of changes: network file systems, folders that are swapped as a
 * whole, no inotify watches left.
 */
const POLL_MS = 5000;

/**
 * Watches files, and the folders they are in: Kubernetes changes a mounted secret or ConfigMap by swapping a symbolic
 * link beside them, and most tools rename a new file into place. Never keeps the process running by itself.
 *
 * @param changed - called some time after something changed, perhaps nothing that matters
 * @returns what ends it
 */
export function watchFiles(files: readonly string[], changed: () => void): () => void {
  const watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  let firstMs: number | undefined;
  const noticed = (): void => {
    const nowMs = performance.now();
    firstMs ??= nowMs;
    clearTimeout(timer);
    timer = setTimeout(tell, Math.min(QUIET_MS, Math.max(0, firstMs + PATIENCE_MS - nowMs))).unref();
  };
  const tell = (): void => {
    firstMs = undefined;
    changed();
  };
  for (const folder of new Set(files.map((file) => path.dirname(file)))) {
    try {
      const watcher = watch(folder, { persistent: false }, noticed);
      // A folder that is gone, or a watch that the kernel takes back: looking now and then goes on.
      watcher.on("error", () => watcher.close());
      watchers.push(watcher);
    } catch {
      // The kernel has no watch left; the same.
    }
  }
  for (const file of files) watchFile(file, { persistent: false, interval: POLL_MS }, noticed);
  return () => {
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
    for (const file of files) unwatchFile(file, noticed);
  };
}
