/**
 * An OTLP receiver on a real socket, and the parts of OTLP's JSON form that tests look at.
 *
 * @module
 */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

/** One export. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** An OTLP receiver on a real socket. */
export class Collector {
  readonly received: Received[] = [];
  readonly #server: Server;

  constructor(t: TestContext, answer: (response: ServerResponse) => void = accept) {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      this.received.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(chunks) });
      answer(response);
    });
    t.after(() => {
      this.#server.closeAllConnections();
      this.#server.close();
    });
  }

  /** Its base URL. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Exports to one path, in the order they came. */
  of(path: string): Received[] {
    return this.received.filter((request) => request.path === path);
  }
}

function accept(response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "application/json" }).end("{}");
}

export interface OtlpValue {
  readonly stringValue?: string;
  readonly intValue?: number | string;
  readonly doubleValue?: number;
  readonly boolValue?: boolean;
}
export interface OtlpAttribute {
  readonly key: string;
  readonly value: OtlpValue;
}
export interface OtlpSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly attributes: readonly OtlpAttribute[];
  readonly links?: readonly { readonly spanId: string }[];
}
export interface OtlpTraces {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeSpans: readonly { readonly scope: { name: string; version: string }; readonly spans: OtlpSpan[] }[];
  }[];
}
export interface OtlpMetrics {
  readonly resourceMetrics: readonly {
    readonly scopeMetrics: readonly { readonly metrics: readonly { readonly name: string }[] }[];
  }[];
}

/** Attributes as a plain object. */
export function attributes(list: readonly OtlpAttribute[]): Record<string, string | number | boolean | undefined> {
  return Object.fromEntries(
    list.map(({ key, value }) => [key, value.stringValue ?? value.intValue ?? value.doubleValue ?? value.boolValue]),
  );
}

/** Every span of these exports (http/json). */
export function spansOf(requests: readonly Received[]): OtlpSpan[] {
  return requests.flatMap(({ body }) => {
    const traces: OtlpTraces = JSON.parse(body.toString());
    return traces.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
  });
}
