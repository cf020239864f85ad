/**
 * The command line: every command with its options, and the exit codes.
 *
 * @module
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { ConfigError } from "../config/faults.ts";
import { HoldfastError } from "../errors.ts";
import { VERSION } from "../version.ts";

/** How a command ended. `0`: fine. `1`: failed. `2`: bad usage or configuration. */
export type ExitCode = 0 | 1 | 2;

/** Runs the command that the arguments name, and ends the process with its exit code. */
export async function main(args: readonly string[]): Promise<void> {
  // Whoever reads our output may stop reading: `holdfast check | head`.
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
  let code: ExitCode = 0;
  const program = commands((result) => {
    code = result;
  });
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

function commands(exit: (code: ExitCode) => void): Command {
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
      exit(await run(config));
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

  return program;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(?:\.\d+)?$/.test(text) || value <= 0 || value > 3600) {
    throw new InvalidArgumentError("must be a number of seconds above 0, at most 3600");
  }
  return value;
}
