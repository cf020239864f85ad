import type {
  Connection,
  Exchange,
  ExchangeHooks,
  Failure,
  Outcome,
  PluginFailure,
  Reply,
  RequestHead,
  ResponseHead,
} from "../../src/plugin/api.ts";

/** Hooks of one exchange that are given it without being told each time. */
export interface BoundHooks {
  request?(head: RequestHead): Reply | void | Promise<Reply | void>;
  upstreamConnected?(connection: Connection): void;
  retry?(error: Failure): void;
  response?(head: ResponseHead): void;
  pluginFailed?(failure: PluginFailure): void;
  end?(outcome: Outcome): void;
}

/** The hooks as core calls them for this exchange; one that is not there stays away. */
export function bindHooks(hooks: ExchangeHooks, exchange: Exchange): BoundHooks {
  return {
    ...(hooks.request && { request: (head) => hooks.request?.(head, exchange) }),
    ...(hooks.upstreamConnected && {
      upstreamConnected: (connection) => hooks.upstreamConnected?.(connection, exchange),
    }),
    ...(hooks.retry && { retry: (error) => hooks.retry?.(error, exchange) }),
    ...(hooks.response && { response: (head) => hooks.response?.(head, exchange) }),
    ...(hooks.pluginFailed && { pluginFailed: (failure) => hooks.pluginFailed?.(failure) }),
    ...(hooks.end && { end: (outcome) => hooks.end?.(outcome, exchange) }),
  };
}
