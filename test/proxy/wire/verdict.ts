/** What comparing the wire forwarder with node:http found. */

/** One comparison. */
export interface Verdict {
  /** Whether everything in it was taken. */
  readonly accepted: boolean;
  /** A difference that is explained, by name. */
  readonly explanation: string | undefined;
  /** What is different without explanation. */
  readonly difference: string | undefined;
}

/** A place where we refuse what node:http takes, and why. */
export interface Stricter {
  /** With the section that says so. */
  readonly name: string;
  /** What we said, as `CODE: message`. */
  readonly said: RegExp;
  /** What must be true of the text for this to be the reason. */
  readonly text: RegExp;
}

/** A place where node:http refuses what we take, and why. */
export interface Looser {
  /** With the section that says so. */
  readonly name: string;
  /** The code of node:http's error. */
  readonly code: RegExp;
  /** What must be true of the text for this to be the reason. */
  readonly text: RegExp;
}

/** @returns the name of the first that fits */
export function explainStricter(list: readonly Stricter[], said: string, text: string): string | undefined {
  return list.find((entry) => entry.said.test(said) && entry.text.test(text))?.name;
}

/** @returns the name of the first that fits */
export function explainLooser(list: readonly Looser[], code: string | undefined, text: string): string | undefined {
  return list.find((entry) => entry.code.test(code ?? "") && entry.text.test(text))?.name;
}
