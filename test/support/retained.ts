/**
 * What is kept alive although nobody refers to it any more, until V8 collects all of its memory.
 *
 * @module
 */
import { execFileSync } from "node:child_process";

/** Objects that come and go, and how many of them are there at a time. */
const COMING = 4000;
const ALIVE = 64;
const EACH_BYTES = 8 * 1024;

/**
 * Lets objects of 8 KiB come and go, 64 of them at a time, in a process of its own that collects young memory only.
 *
 * @param setUp - the body of an async function in which `ModuleURL` imports what is tested; returns
 *   `{ make(payload), end(object) }`: what happens when one comes and when it goes
 * @returns how many of the objects that have gone are still there, about
 */
export function retained(setUp: string): number {
  const script = `
    import { getHeapSpaceStatistics } from "node:v8";
    const { make, end } = await (async () => { ${setUp} })();
    const used = () => {
      gc({ type: "minor" });
      gc({ type: "minor" });
      return getHeapSpaceStatistics().reduce((sum, { space_used_size }) => sum + space_used_size, 0);
    };
    const alive = [];
    const come = (count) => {
      for (let made = 0; made < count; made++) {
        alive.push(make(new Array(${EACH_BYTES / 8}).fill(made)));
        if (alive.length > ${ALIVE}) end(alive.shift());
        if (made % 100 === 0) gc({ type: "minor" });
      }
    };
    come(1000);
    gc();
    const before = used();
    come(${COMING});
    console.log((used() - before) / ${EACH_BYTES});
  `;
  // Where it is decided that objects of one place in the code live long, they are never young.
  const options = ["--expose-gc", "--no-allocation-site-pretenuring", "--input-type=module", "-e", script];
  return Number(execFileSync(process.execPath, options, { encoding: "utf8" }));
}

/** A URL to import a file of the project by, as a literal of JavaScript. */
export function moduleUrl(file: string): string {
  return JSON.stringify(new URL(`../../${file}`, import.meta.url).href);
}
