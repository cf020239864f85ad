/**
 * Everything that `run` and `check` need to know before anything is opened: the configuration, its plugins, and the
 * rules between them.
 *
 * @module
 */
import { ConfigError } from "./config/faults.ts";
import type { SchemaTree } from "./config/leaf.ts";
import { type EffectiveValue, type Environment, type LoadedConfig, readConfig } from "./config/load.ts";
import { brokenRules } from "./config/rules.ts";
import { sidecarSchema } from "./config/schema.ts";
import { unknownVariables } from "./config/variables.ts";
import { type LoadedPlugin, readPlugins } from "./plugin/loader.ts";

/** A configuration that can be run. */
export interface Loaded {
  readonly loaded: LoadedConfig;
  readonly plugins: readonly LoadedPlugin[];
}

/**
 * Loads a configuration and its plugins and applies the rules.
 *
 * @param file - path of sidecar.json
 * @param env - environment variables that outrank it
 * @throws ConfigError with every fault of the file, the environment and the plugins; with every broken rule when there
 *   are no other faults
 */
export async function load(file: string, env: Environment): Promise<Loaded> {
  const { loaded, faults, document, plugins: entries, folder } = readConfig(file, env);
  if (document === undefined) throw new ConfigError(faults);
  const found = await readPlugins(entries, document, folder, env);
  const schemas = [sidecarSchema, ...found.plugins.map(({ plugin }) => plugin.config)] as SchemaTree[];
  const allFaults = [...faults, ...found.faults, ...unknownVariables(env, schemas)];
  if (loaded === undefined || allFaults.length > 0) throw new ConfigError(allFaults);
  const broken = brokenRules(loaded, found.plugins);
  if (broken.length > 0) throw new ConfigError(broken);
  return { loaded: { ...loaded, values: withPluginValues(loaded.values, found.plugins) }, plugins: found.plugins };
}

/** The values with each entry's `config` as its plugin reads it. */
function withPluginValues(values: readonly EffectiveValue[], plugins: readonly LoadedPlugin[]): EffectiveValue[] {
  const byKey = new Map(plugins.map((plugin, index) => [`plugins[${index}].config`, plugin.values]));
  return values.flatMap((value) => {
    const inside = byKey.get(value.key);
    return inside === undefined ? [value] : inside.map((each) => ({ ...each, key: `${value.key}.${each.key}` }));
  });
}
