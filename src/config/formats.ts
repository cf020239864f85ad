/**
 * The convict formats that Holdfast adds: durations and sizes (with `min` and `max` in the schema),
 * lists of words out of a few (`words` in the schema), and lists of address ranges.
 *
 * @module
 */
import convict from "convict";
import { parseRange } from "./address.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

/** Text → number where it parses; anything else stays as it is, for `validate` to refuse with its reason. */
function lenient(parse: (text: string) => number): (value: unknown) => unknown {
  return (value) => {
    if (typeof value !== "string") return value;
    try {
      return parse(value);
    } catch {
      return value;
    }
  };
}

function validateWith(
  parse: (text: string, most?: number) => number,
  format: (value: number) => string,
): (value: unknown, schema: convict.SchemaObj) => void {
  return (value, { min, max }) => {
    const most = typeof max === "number" ? max : undefined;
    const number = typeof value === "number" ? value : parse(typeof value === "string" ? value : "", most);
    if (typeof min === "number" && number < min) throw new TypeError(`must be at least "${format(min)}"`);
    if (most !== undefined && number > most) throw new TypeError(`must be at most "${format(most)}"`);
  };
}

convict.addFormat({
  name: "holdfast-duration",
  coerce: lenient(parseDuration),
  validate: validateWith(parseDuration, formatDuration),
});
convict.addFormat({
  name: "holdfast-size",
  coerce: lenient(parseSize),
  validate: validateWith(parseSize, formatSize),
});
/** What the environment writes with commas between. */
function asList(text: unknown): string[] {
  return String(text)
    .split(",")
    .map((word) => word.trim());
}

convict.addFormat({
  name: "holdfast-ranges",
  coerce: asList,
  validate: (value: unknown) => {
    const texts: readonly unknown[] = Array.isArray(value) ? value : [""];
    for (const text of texts) {
      try {
        parseRange(typeof text === "string" ? text : "");
      } catch (error) {
        // Which one it is: a long list is shown without its end.
        const which = Array.isArray(value) ? `; not ${JSON.stringify(text)}` : "";
        throw new TypeError(`${error instanceof Error ? error.message : String(error)}${which}`);
      }
    }
  },
});
convict.addFormat({
  name: "holdfast-words",
  coerce: asList,
  validate: (value: unknown, { words }: convict.SchemaObj) => {
    if (!Array.isArray(words)) throw new TypeError("needs words in its schema");
    const valid = Array.isArray(value) && value.every((word) => words.includes(word));
    if (!valid || new Set(value).size < value.length) {
      throw new TypeError(`must be a list of different words out of ${words.map((word) => `"${word}"`).join(", ")}`);
    }
  },
});
