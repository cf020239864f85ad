/**
 * Sets of response statuses, as logout rules write them.
 *
 * @module
 */

const CLASS = /^([1-5])xx$/;
const RANGE = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/;

/**
 * Makes the test for `"any"`, `"204"`, `"3xx"`, `"200-399"`, or several of them with commas between.
 *
 * @throws TypeError for any other text
 */
export function compileStatus(text: string): (status: number) => boolean {
  if (text === "any") return () => true;
  const ranges = text.split(",").map((part): readonly [number, number] => {
    const [, digit] = CLASS.exec(part.trim()) ?? [];
    if (digit !== undefined) return [Number(digit) * 100, Number(digit) * 100 + 99];
    const [, first, last = first] = RANGE.exec(part.trim()) ?? [];
    if (first === undefined || Number(last) < Number(first)) {
      throw new TypeError('must be "any", or statuses such as "204", "3xx", "200-399" with commas between');
    }
    return [Number(first), Number(last)];
  });
  return (status) => ranges.some(([first, last]) => status >= first && status <= last);
}
