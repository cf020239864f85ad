/**
 * The command line: every command with its options, and the exit codes.
 *
 * @module
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { ConfigError } from "../config/faults.ts";
import { parseDuration } from "../config/units.ts";
import { HoldfastError } from "../errors.ts";
import { isHostName, METHODS, type Peer, parsePeer } from "../probe/peer.ts";
import { VERSION } from "../version.ts";

/** How a command ended. `0`: fine. `1`: failed. `2`: bad usage or configuration. */
export type ExitCode = 0 | 1 | 2;

/**
 * Runs the command that the arguments name, and ends the process with its exit code.
 *
 * @param onLoaded - called when `run` has nothing left to load
 */
export async function main(args: readonly string[], onLoaded: () => void): Promise<void> {
  // Whoever reads our output may stop reading: `holdfast check | head`.
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
  let code: ExitCode = 0;
  const program = commands((result) => {
    code = result;
  }, onLoaded);
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    code = explain(error);
  }
  await written(process.stdout);
  await written(process.stderr);
  process.exit(code);
}

function explain(error: unknown): ExitCode {
  // commander has printed its own message; asking for help or the version is not an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof ConfigError) {
    process.stderr.write(`${error.message}\n`);
    return 2;
  }
  if (error instanceof HoldfastError) {
    // One line each: what is wrong, where, what to do.
    for (const line of error.message.split("\n")) process.stderr.write(`holdfast: ${line}\n`);
    return 1;
  }
  process.stderr.write(`holdfast: ${error instanceof Error ? error.stack : String(error)}\n`);
  return 1;
}

/** `process.exit` drops what a pipe has not taken yet. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writable) stream.write("", () => resolve());
    else resolve();
  });
}

function configOption(): Option {
  return new Option("-c, --config <file>", "the configuration").default("sidecar.json");
}

function commands(exit: (code: ExitCode) => void, onLoaded: () => void): Command {
  const program = new Command("holdfast")
    .description("A sidecar proxy that knows how long every connection lives")
    .version(VERSION, "-v, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .exitOverride()
    .addHelpText("after", "\nExit codes: 0 fine, 1 failed, 2 bad usage or configuration.");

  program
    .command("run")
    .description("run the sidecar until SIGTERM or SIGINT")
    .addOption(configOption())
    .action(async ({ config }: { config: string }) => {
      const { run } = await import("./run.ts");
      exit(await run(config, onLoaded));
    });

  program
    .command("check")
    .description("check a configuration: every fault, or what is in effect and where it came from")
    .addOption(configOption())
    .option("--json", "print JSON")
    .action(async ({ config, json = false }: { config: string; json?: boolean }) => {
      const { check } = await import("./check.ts");
      exit(await check(config, { json, env: process.env, stdout: process.stdout, stderr: process.stderr }));
    });

  program
    .command("demo")
    .description("run two services with a sidecar each, and show what their connections did")
    .addOption(new Option("--seconds <n>", "how long").default(20).argParser(seconds))
    .action(async (options: { seconds: number }) => {
      const { demo } = await import("./demo.ts");
      exit(await demo(options));
    });

  program
    .command("probe")
    .description("measure how long peers keep connections, and say what to write into sidecar.json")
    .argument("<url...>", "whom to measure", (text: string, before: readonly Peer[] = []) => [...before, peer(text)])
    .addOption(new Option("--method <name>", "method of the requests").choices(METHODS).default("GET"))
    .addOption(
      new Option("--max-wait <duration>", "wait for an idle connection to be closed")
        .default(90_000, "90s")
        .argParser(duration),
    )
    .addOption(new Option("--max-requests <n>", "requests on one connection").default(200).argParser(count(100_000)))
    .addOption(new Option("--connections <n>", "left idle, in each state").default(3).argParser(count(100)))
    .addOption(new Option("--rate <n>", "connections and requests a second").default(20).argParser(count(1000)))
    .addOption(
      new Option("--timeout <duration>", "for opening, and for each response")
        .default(10_000, "10s")
        .argParser(duration),
    )
    .option("--ca <file>", "PEM file of the authorities to trust")
    .addOption(new Option("--host <name>", "ask for this host instead of the URL's").argParser(hostName))
    .option("--json", "print JSON")
    .action(async (peers: readonly Peer[], options: ProbeFlags) => {
      const { probe } = await import("./probe.ts");
      const { maxWait, timeout, ca, host, json = false, ...rest } = options;
      exit(await probe(peers, { ...rest, ca, host, json, maxWaitMs: maxWait, timeoutMs: timeout }));
    });

  program
    .command("doctor")
    .description("find what is wrong with the keep-alive settings of a chain of hops")
    .argument("[hop...]", "from the caller to the origin: presets, sidecar.json, probe results, admin=URL, probe=URL")
    .addOption(new Option("--rtt <duration>", "round trip of each link").argParser(duration))
    .addOption(new Option("--requests-per-second <n>", "over each link").argParser(count(10_000_000)))
    .addOption(new Option("--connections <n>", "that these requests share").argParser(count(1_000_000)))
    .addOption(new Option("--max-wait <duration>", "for hops to probe").default(90_000, "90s").argParser(duration))
    .option("--ca <file>", "PEM file of the authorities to trust, for hops to probe")
    .option("--presets", "list the presets")
    .option("--json", "print JSON")
    .action(async (hops: readonly string[], options: DoctorFlags) => {
      const { doctor } = await import("./doctor.ts");
      const { rtt, maxWait, requestsPerSecond, connections, ca, presets = false, json = false } = options;
      const traffic = { rttMs: rtt, requestsPerSecond, connections };
      exit(await doctor(hops, { ...traffic, maxWaitMs: maxWait, ca, presets, json }));
    });

  return program;
}

interface DoctorFlags {
  readonly rtt?: number;
  readonly requestsPerSecond?: number;
  readonly connections?: number;
  readonly maxWait: number;
  readonly ca?: string;
  readonly presets?: boolean;
  readonly json?: boolean;
}

interface ProbeFlags {
  readonly method: (typeof METHODS)[number];
  readonly maxWait: number;
  readonly maxRequests: number;
  readonly connections: number;
  readonly rate: number;
  readonly timeout: number;
  readonly ca?: string;
  readonly host?: string;
  readonly json?: boolean;
}

function peer(text: string): Peer {
  const parsed = parsePeer(text);
  if ("wrong" in parsed) throw new InvalidArgumentError(parsed.wrong);
  return parsed.peer;
}

function hostName(text: string): string {
  if (!isHostName(text)) throw new InvalidArgumentError('must be a name, with or without a port: "inventory.internal"');
  return text;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(?:\.\d+)?$/.test(text) || value <= 0 || value > 3600) {
    throw new InvalidArgumentError("must be a number of seconds above 0, at most 3600");
  }
  return value;
}

/** A duration that ends, in milliseconds. */
function duration(text: string): number {
  const wrong = new InvalidArgumentError('must be a duration above 0, at most 24 h: "90s", "5m"');
  try {
    const ms = parseDuration(text);
    if (ms > 0 && ms <= 86_400_000) return ms;
  } catch {
    throw wrong;
  }
  throw wrong;
}

/** A whole number from 1 to `most`. */
function count(most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < 1 || value > most) {
      throw new InvalidArgumentError(`must be a whole number from 1 to ${most}`);
    }
    return value;
  };
}
