/**
 * The plugin API as types. Nothing here runs: `tsc` checks it with everything else, and a line that is no longer true
 * does not compile.
 */
import {
  type CLOSE_REASONS,
  type CloseReason,
  type Connection,
  type ConnectionHooks,
  definePlugin,
  duration,
  type ExchangeHooks,
  type Filter,
  listOf,
  optionalDuration,
  type Plugin,
  type PluginContext,
  type Reply,
  type RequestHead,
  type ResponseHead,
  size,
} from "../../src/plugin/api.ts";

/** Compiles only when `T` is true. */
type Assert<T extends true> = T;
/** Whether two types are the same, both ways and including `any`. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Whether a value of `A` may stand where `B` is wanted. */
type Accepts<B, A> = [A] extends [B] ? true : false;
type Refuses<B, A> = Accepts<B, A> extends true ? false : true;
/** Whether a field of `T` cannot be assigned. */
type IsReadonly<T, K extends keyof T> = Same<{ [P in K]: T[P] }, { readonly [P in K]: T[P] }>;

// The type of a plugin's configuration comes from its schema.
const plugin = definePlugin({
  name: "typed",
  apiVersion: 1,
  description: "For its types",
  config: {
    limit: { default: 10, format: "nat", doc: "A number." },
    mode: { default: "a" as "a" | "b", format: ["a", "b"], doc: "A word." },
    on: { default: true, format: Boolean, doc: "A switch." },
    every: duration("1s", "A duration."),
    after: optionalDuration("A duration that may be absent."),
    most: size("1KiB", "A size."),
    rules: listOf<{ path: string }>({ path: { default: "/", format: String, doc: "A path." } }, "A list."),
    group: { inner: { default: "x", format: String, doc: "Text in a group." } },
  },
  setup({ config }) {
    return {
      // A hook may take fewer parameters than it is given, and may return nothing.
      connection: ({ keepAlive }) => {
        keepAlive.maxRequests = config.limit;
      },
      exchange: () => ({ response: (head) => head.headers.set("X-Mode", config.mode) }),
    };
  },
});

type Config<P> = P extends Plugin<infer C> ? C : never;
type Read = Config<typeof plugin>;

export type ConfigIsInferred = [
  Assert<Same<Read["limit"], number>>,
  Assert<Same<Read["mode"], "a" | "b">>,
  Assert<Same<Read["on"], boolean>>,
  Assert<Same<Read["every"], number>>,
  Assert<Same<Read["after"], number | null>>,
  Assert<Same<Read["most"], number>>,
  Assert<Same<Read["rules"], { path: string }[]>>,
  Assert<Same<Read["group"]["inner"], string>>,
  Assert<Same<keyof Read, "limit" | "mode" | "on" | "every" | "after" | "most" | "rules" | "group">>,
  Assert<Same<Parameters<(typeof plugin)["setup"]>[0], PluginContext<Read>>>,
];

/** One hook of an exchange. */
type Hook<K extends keyof ExchangeHooks> = Required<ExchangeHooks>[K];

export type HooksOfAnExchange = [
  // `request` alone may be asynchronous, and alone may answer.
  Assert<Accepts<Hook<"request">, (head: RequestHead) => Promise<void>>>,
  Assert<Accepts<Hook<"request">, (head: RequestHead) => Promise<Reply>>>,
  Assert<Accepts<Hook<"request">, () => Reply>>,
  Assert<Accepts<Hook<"request">, () => undefined>>,
  Assert<Refuses<Hook<"request">, () => number>>,
  Assert<Refuses<Hook<"request">, () => { code: number }>>,
  Assert<Refuses<Hook<"request">, (head: ResponseHead) => void>>,
  Assert<Refuses<Hook<"response">, (head: RequestHead) => void>>,
  Assert<Refuses<Hook<"end">, (status: number) => void>>,
  Assert<Refuses<Hook<"upstreamConnected">, (connection: Connection, more: string) => void>>,
  // What is no hook is no property: a misspelled one does not compile in an object literal.
  Assert<Refuses<keyof ExchangeHooks, "requests">>,
  Assert<Refuses<keyof ConnectionHooks, "closed">>,
  Assert<Refuses<keyof Filter, "request">>,
];

export type HooksOfAFilter = [
  Assert<Accepts<Filter, Record<never, never>>>,
  Assert<Refuses<Filter, { exchange: () => number }>>,
  Assert<Refuses<Filter, { connection: () => Promise<ConnectionHooks> }>>,
  Assert<Refuses<Filter, { exchange: () => Promise<ExchangeHooks> }>>,
  Assert<Accepts<Filter, { close: () => Promise<void> }>>,
];

export type PluginsAreChecked = [
  Assert<Refuses<Plugin<object>["apiVersion"], 2>>,
  Assert<Refuses<Plugin<object>, Omit<Plugin<object>, "description">>>,
  Assert<Refuses<Plugin<object>, Omit<Plugin<object>, "setup">>>,
  Assert<Refuses<ReturnType<Plugin<object>["setup"]>, undefined>>,
];

export type FactsAreReadOnly = [
  Assert<IsReadonly<Connection, "id" | "state" | "hint" | "closeReason" | "keepAlive">>,
  Assert<Same<IsReadonly<Connection, "tcpKeepAlive">, false>>,
  Assert<Same<IsReadonly<Connection["keepAlive"], "idleTimeoutMs">, false>>,
  Assert<IsReadonly<RequestHead, "method" | "version" | "headers">>,
  Assert<Same<IsReadonly<RequestHead, "target">, false>>,
  Assert<Same<IsReadonly<RequestHead, "authority">, false>>,
  Assert<IsReadonly<ResponseHead, "status" | "reason">>,
];

export type ClosedLists = [
  Assert<Same<(typeof CLOSE_REASONS)[number], CloseReason>>,
  Assert<Refuses<CloseReason, "because">>,
];
