/** A second host on this machine: a network namespace behind a veth pair, whose packets a test can drop. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Another host, reached at {@link address}. */
export interface OtherHost {
  /** Our address on the link to it. */
  readonly ourAddress: string;
  readonly address: string;
  /**
   * Runs a JavaScript program there; it is killed when the test ends.
   *
   * @returns the first line that it printed
   */
  node(program: string, ...args: string[]): Promise<string>;
  /** From now on every packet from and to it is lost: nothing is answered, not even by its kernel. */
  vanish(): Promise<void>;
}

/** Why there can be no other host on this machine; `undefined` when there can. */
export async function whyNoOtherHost(): Promise<string | undefined> {
  if (process.platform !== "linux") return "needs Linux network namespaces";
  if (process.getuid?.() !== 0) return "needs root to make a network namespace";
  const name = `holdfast-probe-${process.pid}`;
  try {
    await run("ip", ["netns", "add", name]);
    await run("ip", ["netns", "exec", name, "iptables", "-L", "-n"]);
    return undefined;
  } catch (error) {
    return `cannot make a network namespace and drop packets in it: ${(error as Error).message.split("\n")[0]}`;
  } finally {
    await run("ip", ["netns", "del", name]).catch(() => {});
  }
}

let made = 0;

/** Makes another host; it is gone when the test ends. */
export async function otherHost(t: TestContext): Promise<OtherHost> {
  const id = `${process.pid}-${made++}`;
  const namespace = `holdfast-${id}`;
  // Interface names have 15 characters at most.
  const [ours, theirs] = [`hfa${id}`.slice(0, 15), `hfb${id}`.slice(0, 15)];
  const network = `10.${1 + (process.pid % 250)}.${(process.pid >> 8) % 250}`;
  const [ourAddress, address] = [`${network}.${made * 4 + 1}`, `${network}.${made * 4 + 2}`];
  const inside = (...command: string[]) => run("ip", ["netns", "exec", namespace, ...command]);

  await run("ip", ["netns", "add", namespace]);
  t.after(async () => {
    await run("ip", ["netns", "del", namespace]);
    // The pair goes with the namespace, but not at once.
    await run("ip", ["link", "del", ours]).catch(() => {});
  });
  await run("ip", ["link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", namespace]);
  await run("ip", ["addr", "add", `${ourAddress}/30`, "dev", ours]);
  await run("ip", ["link", "set", ours, "up"]);
  await inside("ip", "addr", "add", `${address}/30`, "dev", theirs);
  await inside("ip", "link", "set", theirs, "up");

  return {
    ourAddress,
    address,
    async node(program, ...args) {
      const command = ["netns", "exec", namespace, process.execPath, "--input-type=module", "-e", program, ...args];
      const child = spawn("ip", command, { stdio: ["ignore", "pipe", "inherit"] });
      t.after(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill("SIGKILL");
        await once(child, "exit");
      });
      const [line] = await once(child.stdout.setEncoding("utf8"), "data");
      return String(line).trim();
    },
    async vanish() {
      await inside("iptables", "-A", "INPUT", "-j", "DROP");
      await inside("iptables", "-A", "OUTPUT", "-j", "DROP");
    },
  };
}
