#!/usr/bin/env node
/**
 * `holdfast`: argv → command.
 *
 * This file has no static import and no new syntax, so that a Node.js that is too old can still read it and say so.
 *
 * @module
 */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 26 || (major === 26 && minor < 4)) {
  process.stderr.write(`holdfast needs Node.js 26.4 or newer; this is v${process.versions.node}\n`);
  process.exit(1);
}

const args = process.argv.slice(2);
const { startFrugally } = await import("./commands/frugal-start.ts");
// The other commands end soon, or have nobody beside them to spare.
const atEase = args[0] === "run" ? startFrugally([...process.execArgv, process.env["NODE_OPTIONS"] ?? ""]) : () => {};
const { main } = await import("./commands/main.ts");
await main(args, atEase);

export {};
