/**
 * A JSON file with the place of each of its keys and values.
 *
 * @module
 */
import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import { type Fault, keyText, type Path, type Place } from "./faults.ts";

/** A JSON file that was read. */
export interface Document {
  /** Its path, as it was given. */
  readonly file: string;
  readonly value: unknown;
  /**
   * Where the value at a path stands, or with `atKey` its key; where there is none, the nearest that is around it.
   */
  place(path: Path, atKey?: boolean): Place;
}

/**
 * Parses JSON: strict JSON, without comments or trailing commas.
 *
 * @param file - name for faults
 * @returns the document, with faults for every key that an object has twice; or what is wrong with the text
 */
export function parseDocument(file: string, text: string): { document: Document | undefined; faults: Fault[] } {
  // A byte order mark is not JSON, and editors on Windows write it.
  const json = text.startsWith("\uFEFF") ? text.slice(1) : text;
  const lines = lineStarts(json);
  const at = (offset: number): Place => position(file, lines, offset);
  const errors: ParseError[] = [];
  const root = parseTree(json, errors, { disallowComments: true, allowTrailingComma: false });
  if (root === undefined || errors.length > 0) {
    return { document: undefined, faults: syntaxFaults(errors, json, at) };
  }
  const place = (path: Path, atKey = false): Place => at(offsetOf(root, path, atKey));
  const faults = duplicateKeys(root, []).map((duplicate) => duplicateFault(duplicate, at));
  return { document: { file, value: JSON.parse(json), place }, faults };
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (const match of text.matchAll(/\r\n|\r|\n/g)) starts.push(match.index + match[0].length);
  return starts;
}

function position(file: string, lines: readonly number[], offset: number): Place {
  const index = lines.findLastIndex((start) => start <= offset);
  return { file, line: index + 1, column: offset - lines[index]! + 1 };
}

function syntaxFaults(errors: readonly ParseError[], json: string, at: (offset: number) => Place): Fault[] {
  if (json.trim() === "")
    return [{ place: at(0), key: "", wrong: "the file is empty", allowed: "must be a JSON object" }];
  // What follows the first error on a line is mostly its consequence.
  const byLine = new Map<string, Fault>();
  for (const { error, offset } of errors) {
    const place = at(offset);
    const line = "line" in place ? String(place.line) : "";
    if (!byLine.has(line))
      byLine.set(line, { place, key: "", wrong: "not JSON", allowed: SYNTAX[printParseErrorCode(error)] });
  }
  return [...byLine.values()];
}

const SYNTAX: Record<ReturnType<typeof printParseErrorCode>, string> = {
  InvalidSymbol: "strings need double quotes; words are only true, false and null",
  InvalidNumberFormat: "this is not a number",
  PropertyNameExpected: "a key in double quotes must stand here (the last entry has no comma after it)",
  ValueExpected: "a value must stand here (the last entry has no comma after it)",
  ColonExpected: "a colon must stand here",
  CommaExpected: "a comma must stand here",
  CloseBraceExpected: 'a "}" must stand here',
  CloseBracketExpected: 'a "]" must stand here',
  EndOfFileExpected: "nothing may follow the end of the object",
  InvalidCommentToken: "comments are not allowed",
  UnexpectedEndOfComment: "comments are not allowed",
  UnexpectedEndOfString: "the string has no closing quote",
  UnexpectedEndOfNumber: "the number is not complete",
  InvalidUnicode: "\\u needs four hexadecimal digits",
  InvalidEscapeCharacter: "this is not an escape of JSON",
  InvalidCharacter: "control characters must be escaped",
  "<unknown ParseErrorCode>": "must be JSON",
};

/** A key that stands a second time in its object. */
interface Duplicate {
  /** Of the object. */
  readonly path: Path;
  readonly key: string;
  readonly offset: number;
  /** Where it stands first. */
  readonly firstOffset: number;
}

function duplicateKeys(node: Node, path: Path): Duplicate[] {
  const children = node.children ?? [];
  if (node.type === "array") return children.flatMap((child, index) => duplicateKeys(child, [...path, index]));
  if (node.type !== "object") return [];
  const seen = new Map<string, number>();
  return children.flatMap((property) => {
    const [keyNode, valueNode] = property.children ?? [];
    if (keyNode === undefined || valueNode === undefined) return [];
    const key = String(keyNode.value);
    const inside = duplicateKeys(valueNode, [...path, key]);
    const firstOffset = seen.get(key);
    if (firstOffset !== undefined) return [{ path, key, offset: keyNode.offset, firstOffset }, ...inside];
    seen.set(key, keyNode.offset);
    return inside;
  });
}

function duplicateFault({ path, key, offset, firstOffset }: Duplicate, at: (offset: number) => Place): Fault {
  const first = at(firstOffset);
  const line = "line" in first ? first.line : 0;
  const allowed = `the first is on line ${line}; keep one`;
  return { place: at(offset), key: keyText(path), wrong: `"${key}" is given twice`, allowed };
}

/** Path of the first key that an object of a JSON text has twice; `undefined` when there is none. */
export function firstDuplicateKey(json: string): Path | undefined {
  const root = parseTree(json);
  const first = root === undefined ? undefined : duplicateKeys(root, [])[0];
  return first === undefined ? undefined : [...first.path, first.key];
}

function offsetOf(root: Node, path: Path, atKey: boolean): number {
  for (let length = path.length; length >= 0; length--) {
    const node = findNodeAtLocation(root, path.slice(0, length));
    if (node === undefined) continue;
    const keyNode = node.parent?.type === "property" ? node.parent.children?.[0] : undefined;
    // Something that is missing is reported at the key of what it is missing from.
    return (atKey || length < path.length) && keyNode !== undefined ? keyNode.offset : node.offset;
  }
  return root.offset;
}
