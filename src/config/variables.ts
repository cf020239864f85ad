/**
 * Environment variables that look like ours and mean nothing: mistyped names, which would be ignored in silence.
 *
 * @module
 */
import { type Fault, nearest } from "./faults.ts";
import { asLeaf, isLeaf, type SchemaTree } from "./leaf.ts";

const PREFIX = "HOLDFAST_";

/** What Kubernetes sets in every pod for a Service whose name begins with `holdfast`. */
const SERVICE_LINK = /_SERVICE_HOST$|_SERVICE_PORT(?:_\w+)?$|_PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?$/;

/** Names of the environment variables that a schema knows. */
export function variablesOf(schema: SchemaTree): string[] {
  return Object.values(schema).flatMap((node) => {
    if (!isLeaf(node)) return variablesOf(node as SchemaTree);
    const { env, items } = asLeaf(node);
    return [...(env === undefined ? [] : [env]), ...(items === undefined ? [] : variablesOf(items))];
  });
}

/** A fault for each variable with our prefix that none of the schemas knows. Empty ones count as not set. */
export function unknownVariables(
  env: Readonly<Record<string, string | undefined>>,
  schemas: readonly SchemaTree[],
): Fault[] {
  const known = new Set(schemas.flatMap(variablesOf));
  return Object.keys(env)
    .filter((name) => name.startsWith(PREFIX) && env[name] !== "" && env[name] !== undefined)
    .filter((name) => !known.has(name) && !SERVICE_LINK.test(name))
    .map((variable) => {
      const suggestion = nearest(
        variable.slice(PREFIX.length),
        Array.from(known, (name) => name.slice(PREFIX.length)),
      );
      const allowed =
        suggestion === undefined ? "docs/configuration.md names every one" : `did you mean ${PREFIX}${suggestion}?`;
      return { place: { variable }, key: "", wrong: "no such variable", allowed };
    });
}
