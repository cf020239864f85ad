/**
 * The command line of the bench.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { isPeerName, PEER_NAMES, type PeerName } from "./peers/peer.ts";
import { isScenarioName, SCENARIO_NAMES, type ScenarioName } from "./scenarios/scenario.ts";

/** What the bench was asked to do. */
export interface Options {
  /** How often each peer is measured in each scenario, in turns. */
  readonly rounds: number;
  /** How long one measurement lasts, in seconds. */
  readonly seconds: number;
  /** How long each peer is under load before it is measured, in seconds. */
  readonly warmUpSeconds: number;
  readonly only: readonly ScenarioName[];
  readonly peers: readonly PeerName[];
  /** Few exchanges, each checked byte by byte; speed is not looked at. */
  readonly quick: boolean;
  /** Whether `dist` is built first. */
  readonly build: boolean;
  /** Folder for the JSON and the chart. */
  readonly out: string;
  /** Whether the result goes into this folder and its README.md instead. */
  readonly publish: boolean;
}

/** What `--help` says. */
export const USAGE = `npm run bench -- [options]

  --rounds N         measure each peer N times, in turns (default 5; with --quick 1)
  --seconds N        length of one measurement (default 3)
  --only a,b         only these scenarios: ${SCENARIO_NAMES.join(", ")}
  --peers a,b        only these peers: ${PEER_NAMES.join(", ")}
  --quick            few exchanges, each checked byte by byte; speed is not looked at
  --out FOLDER       where the JSON and the chart go (default .cache/bench)
  --publish          write them to bench/result.json, bench/result.svg and bench/README.md
  --no-build         use dist as it is
`;

/**
 * Reads the command line. `undefined`: help was asked for.
 *
 * @throws Error that says what is wrong with it
 */
export function readOptions(args: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      seconds: { type: "string", default: "3" },
      only: { type: "string" },
      peers: { type: "string" },
      quick: { type: "boolean", default: false },
      out: { type: "string", default: ".cache/bench" },
      publish: { type: "boolean", default: false },
      build: { type: "boolean", default: true },
      help: { type: "boolean", default: false },
    },
    allowNegative: true,
  });
  if (values.help) return undefined;
  if (values.quick && values.publish) throw new Error("--publish needs measurements, and --quick makes none");
  return {
    rounds: positive("--rounds", values.rounds ?? (values.quick ? "1" : "5")),
    seconds: positive("--seconds", values.seconds),
    warmUpSeconds: 4,
    only: names("--only", values.only, SCENARIO_NAMES, isScenarioName),
    peers: names("--peers", values.peers, PEER_NAMES, isPeerName),
    quick: values.quick,
    build: values.build,
    out: values.out,
    publish: values.publish,
  };
}

function positive(option: string, text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new Error(`${option} ${text}: must be a whole number from 1 to 9999`);
  return Number(text);
}

function names<T extends string>(
  option: string,
  text: string | undefined,
  known: readonly T[],
  isKnown: (name: string) => name is T,
): readonly T[] {
  if (text === undefined) return known;
  return text.split(",").map((name) => {
    if (isKnown(name)) return name;
    throw new Error(`${option} ${name}: there is none; known are ${known.join(", ")}`);
  });
}
