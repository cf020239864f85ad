/**
 * The origin of the torture, as a process: keeps idle connections for a fixed time and counts how often it served each
 * request. `node origin-process.ts '{"idleMs":50,"close":"FIN","hint":"timeout=1","answerMs":10,"wayMs":1}'`
 */
import net, { type AddressInfo, type Socket } from "node:net";

/** How the origin behaves. */
export interface OriginBehaviour {
  /** How long it keeps an idle connection, in milliseconds. */
  readonly idleMs: number;
  readonly close: "FIN" | "RST";
  /** Value of `Keep-Alive` in its responses; empty: none. */
  readonly hint: string;
  /** From the request to its response, in milliseconds. */
  readonly answerMs: number;
  /** From its decision to close until that shows, in milliseconds: what the way would take on a network. */
  readonly wayMs: number;
}

/** What the origin saw. */
export interface OriginReport {
  /** Connections that carried at least one request. */
  readonly connections: number;
  /** How often each request was served, by `METHOD id`. */
  readonly served: readonly (readonly [request: string, times: number])[];
}

const REQUEST = /^(?<method>[A-Z]+) \/(?<id>\d+) HTTP\/1\.1\r\n(?<fields>[\s\S]*?)\r\n\r\n/;

function run({ idleMs, close, hint, answerMs, wayMs }: OriginBehaviour): void {
  const served = new Map<string, number>();
  let connections = 0;
  const server = net.createServer((socket: Socket) => {
    let received = "";
    let isClosed = false;
    let requests = 0;
    let timer: NodeJS.Timeout | undefined;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => clearTimeout(timer));
    socket.on("data", (bytes) => {
      // What comes after the close is not served, whatever it is.
      if (isClosed) return;
      received += bytes.toString("latin1");
      const match = REQUEST.exec(received);
      if (match === null) return;
      const length = Number(/^content-length: *(\d+)/im.exec(match.groups!["fields"]!)?.[1] ?? 0);
      if (received.length < match[0].length + length) return;
      received = received.slice(match[0].length + length);
      clearTimeout(timer);
      if (requests++ === 0) connections++;
      const key = `${match.groups!["method"]} ${match.groups!["id"]}`;
      served.set(key, (served.get(key) ?? 0) + 1);
      timer = setTimeout(() => {
        const keepAlive = hint === "" ? "" : `Keep-Alive: ${hint}\r\n`;
        socket.write(`HTTP/1.1 200 OK\r\n${keepAlive}Content-Length: 2\r\n\r\nok`);
        timer = setTimeout(() => {
          isClosed = true;
          timer = setTimeout(() => {
            if (close === "FIN") socket.end();
            else socket.resetAndDestroy();
          }, wayMs);
        }, idleMs);
      }, answerMs);
    });
  });
  server.listen(0, "127.0.0.1", () => process.send!((server.address() as AddressInfo).port));
  process.on("message", () => process.send!({ connections, served: [...served] } satisfies OriginReport));
  process.on("disconnect", () => process.exit());
}

if (import.meta.main) run(JSON.parse(process.argv[2]!) as OriginBehaviour);
