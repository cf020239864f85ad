/**
 * `holdfast check`: every fault of a configuration, or what is in effect and where it came from.
 *
 * @module
 */
import { ConfigError } from "../config/faults.ts";
import type { EffectiveValue, Environment } from "../config/load.ts";
import { load } from "../load.ts";
import { resolveSettings } from "../telemetry/settings.ts";
import { VERSION } from "../version.ts";
import type { ExitCode } from "./main.ts";

/** Where the command reads and writes. */
export interface CheckOptions {
  /** Whether to print JSON. */
  readonly json: boolean;
  readonly env: Environment;
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/**
 * Checks a configuration. Nothing is opened and nothing is sent; plugins are imported, not set up.
 *
 * @param file - path of sidecar.json
 * @returns 0 when the configuration can be run, 2 when not
 */
export async function check(file: string, { json, env, stdout, stderr }: CheckOptions): Promise<ExitCode> {
  try {
    const { loaded } = await load(file, env);
    const values = loaded.values.map(shown);
    const { service, telemetry } = loaded.config;
    const { warnings } = resolveSettings(telemetry, service, VERSION, env);
    stdout.write(json ? `${JSON.stringify({ valid: true, values, warnings }, undefined, 2)}\n` : table(file, values));
    if (!json) for (const warning of warnings) stderr.write(`warning: ${warning}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (json) stdout.write(`${JSON.stringify({ valid: false, faults: error.faults }, undefined, 2)}\n`);
    else stderr.write(`${error.message}\n${count(error.faults.length)}\n`);
    return 2;
  }
}

function count(faults: number): string {
  return faults === 1 ? "1 fault" : `${faults} faults`;
}

/** A value as it may be seen. */
function shown({ secret, ...value }: EffectiveValue): Omit<EffectiveValue, "secret"> {
  return secret && value.value !== null ? { ...value, value: "***" } : value;
}

function table(file: string, values: readonly Omit<EffectiveValue, "secret">[]): string {
  const rows = values.map(({ key, value, source, variable }) => [
    key,
    JSON.stringify(value),
    source === "environment" ? `environment ${variable}` : source,
  ]);
  const [keyWidth = 0, valueWidth = 0] = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map(([key = "", value = "", source = ""]) => {
    return `${key.padEnd(keyWidth)}  ${value.padEnd(Math.min(valueWidth, 40))}  ${source}\n`;
  });
  return `${lines.join("")}\n${file}: no faults\n`;
}
