/**
 * The files of a listener's TLS: reading them, and noticing that they changed.
 *
 * @module
 */
import { X509Certificate } from "node:crypto";
import { type FSWatcher, readFileSync, unwatchFile, watch, watchFile } from "node:fs";
import path from "node:path";
import tls from "node:tls";
import type { ListenerTls } from "../../config/sidecar-config.ts";

/** How long files must have been quiet before they are read: certificate and key are rarely written at one instant. */
const QUIET_MS = 200;

/**
 * How often files are looked at where nobody tells of changes: network file systems, folders that are swapped as a
 * whole, no inotify watches left.
 */
const POLL_MS = 5000;

/** What the files hold; all of it fits together. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly clientCa: string | undefined;
  /** For logs: whom the certificate names and until when it is valid. */
  readonly subject: string;
  readonly validTo: string;
}

/**
 * Reads the files and checks that they can be used together.
 *
 * @throws Error with one line that says which file is wrong, and how
 */
export function readMaterial(settings: ListenerTls): TlsMaterial {
  const cert = read(settings.cert);
  const key = read(settings.key);
  const clientCa = settings.clientCa === undefined ? undefined : read(settings.clientCa);
  const leaf = parse(settings.cert, () => new X509Certificate(cert));
  if (clientCa !== undefined) parse(settings.clientCa!, () => new X509Certificate(clientCa));
  parse(`${settings.key} with ${settings.cert}`, () =>
    tls.createSecureContext({ cert, key, minVersion: settings.minVersion }),
  );
  return { cert, key, clientCa, subject: leaf.subject.replaceAll("\n", ", "), validTo: leaf.validTo };
}

/** Whether both are the same text. */
export function sameMaterial(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.cert === other.cert && one.key === other.key && one.clientCa === other.clientCa;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
}

function parse<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${file} cannot be used (${error instanceof Error ? error.message : String(error)})`, {
      cause: error,
    });
  }
}

/**
 * Watches files, and the folders they are in: Kubernetes changes a mounted secret by swapping a symbolic link beside
 * them, and most tools rename a new file into place.
 *
 * @param changed - called some time after something changed, perhaps nothing that matters
 * @returns what ends it
 */
export function watchFiles(settings: ListenerTls, changed: () => void): () => void {
  const files = [settings.cert, settings.key, settings.clientCa].filter((file) => file !== undefined);
  const watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  const noticed = (): void => {
    clearTimeout(timer);
    timer = setTimeout(changed, QUIET_MS).unref();
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
