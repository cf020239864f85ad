/** Every server, each with its defaults and two other settings. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { run } from "../interop/programs.ts";
import { originFile, type PeerSetting, type RealPeer, type Started } from "./real-peer.ts";

const ANY = Number.POSITIVE_INFINITY;

function nginx(name: string, directives: string, documented: PeerSetting["documented"]): PeerSetting {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return {
    name,
    documented,
    prepare(folder, port) {
      writeFileSync(
        path.join(folder, "nginx.conf"),
        `daemon off; master_process off; pid nginx.pid; error_log error.log;
events {}
http {
  ${temporary.map((each) => `${each}_temp_path ${each};`).join(" ")}
  access_log off;
  ${directives}
  server { listen 127.0.0.1:${port}; location / { return 200 "ok"; } }
}
`,
      );
      return { command: ["nginx", "-p", folder, "-c", "nginx.conf", "-e", path.join(folder, "error.log")] };
    },
  };
}

function haproxy(name: string, timeouts: readonly string[], documented: PeerSetting["documented"]): PeerSetting {
  return {
    name,
    documented,
    prepare(folder, port) {
      const file = path.join(folder, "haproxy.cfg");
      const lines = [
        "defaults",
        "  mode http",
        "  timeout connect 5000",
        "  timeout server 50000",
        ...timeouts.map((timeout) => `  ${timeout}`),
        "frontend peer",
        `  bind 127.0.0.1:${port}`,
        '  http-request return status 200 content-type "text/plain" string "ok"',
      ];
      writeFileSync(file, `${lines.join("\n")}\n`);
      return { command: ["haproxy", "-db", "-f", file] };
    },
  };
}

function apache(name: string, directives: readonly string[], documented: PeerSetting["documented"]): PeerSetting {
  return {
    name,
    documented,
    prepare(folder, port) {
      const www = path.join(folder, "www");
      mkdirSync(www, { recursive: true });
      writeFileSync(path.join(www, "index.html"), "ok");
      const modules = ["mpm_event", "authz_core", "dir"];
      const lines = [
        `ServerRoot ${folder}`,
        "ServerName localhost",
        `PidFile ${folder}/apache.pid`,
        `DefaultRuntimeDir ${folder}`,
        `ErrorLog ${folder}/error.log`,
        `Listen 127.0.0.1:${port}`,
        ...modules.map((each) => `LoadModule ${each}_module /usr/lib/apache2/modules/mod_${each}.so`),
        ...(process.getuid?.() === 0 ? ["User www-data", "Group www-data"] : []),
        `DocumentRoot ${www}`,
        "DirectoryIndex index.html",
        `<Directory ${www}>`,
        "  Require all granted",
        "</Directory>",
        ...directives,
      ];
      const file = path.join(folder, "apache.conf");
      writeFileSync(file, `${lines.join("\n")}\n`);
      return { command: ["apache2", "-X", "-f", file] };
    },
  };
}

function caddy(name: string, options: string, documented: PeerSetting["documented"]): PeerSetting {
  return {
    name,
    documented,
    prepare(folder, port) {
      const file = path.join(folder, "Caddyfile");
      writeFileSync(
        file,
        `{
  admin off
  auto_https off
  log {
    level ERROR
  }
${options}
}
http://:${port} {
  bind 127.0.0.1
  respond "ok"
}
`,
      );
      const env = { XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder };
      return { command: ["caddy", "run", "--config", file, "--adapter", "caddyfile"], env };
    },
  };
}

function program(
  name: string,
  documented: PeerSetting["documented"],
  command: (folder: string, port: number) => readonly [string, ...string[]],
  env: (port: number) => Readonly<Record<string, string>> = () => ({}),
): PeerSetting {
  return { name, documented, prepare: (folder, port) => ({ command: command(folder, port), env: env(port) }) };
}

function node(name: string, settings: Readonly<Record<string, string>>, documented: PeerSetting["documented"]) {
  const command = (): readonly [string, ...string[]] => [process.execPath, originFile("server.mjs")];
  return program(name, documented, command, (port) => ({ PORT: String(port), ...settings }));
}

function python(name: string, timeout: string | undefined, idleMs: number): PeerSetting {
  const documented = { idleMs, requests: ANY, announcedMs: undefined };
  const args = timeout === undefined ? [] : [timeout];
  return program(name, documented, (_folder, port) => ["python3", originFile("server.py"), String(port), ...args]);
}

function gunicorn(name: string, settings: readonly string[], idleMs: number): PeerSetting {
  const documented = { idleMs, requests: ANY, announcedMs: undefined, tickMs: 1000 };
  return program(
    name,
    documented,
    (folder, port) => [
      "gunicorn",
      ...["--chdir", path.dirname(originFile("app.py")), "--bind", `127.0.0.1:${port}`, "--worker-tmp-dir", folder],
      ...["--worker-class", "gthread", "--threads", "8", ...settings, "app:wsgi"],
    ],
    () => ({ PYTHONDONTWRITEBYTECODE: "1" }),
  );
}

function uvicorn(name: string, settings: readonly string[], idleMs: number): PeerSetting {
  const documented = { idleMs, requests: ANY, announcedMs: undefined };
  return program(
    name,
    documented,
    (_folder, port) => [
      "uvicorn",
      ...["--app-dir", path.dirname(originFile("app.py")), "--host", "127.0.0.1", "--port", String(port)],
      ...["--log-level", "error", ...settings, "app:asgi"],
    ],
    () => ({ PYTHONDONTWRITEBYTECODE: "1" }),
  );
}

/** Folders of the compiled classes, for every start. */
const classes = new Map<string, Promise<string>>();

async function compiled(name: string, jars: readonly string[]): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "holdfast-java-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await run("javac", ["-d", folder, "-cp", [...jars, folder].join(":"), originFile(`${name}.java`)]);
  return folder;
}

/** A class of `origins/` that is run with its port. */
async function javaCommand(
  name: string,
  jars: readonly string[],
  options: readonly string[],
  args: readonly string[],
): Promise<Started> {
  let folder = classes.get(name);
  if (folder === undefined) {
    folder = compiled(name, jars);
    classes.set(name, folder);
  }
  const classPath = [...jars, await folder].join(":");
  return { command: ["java", "-XX:TieredStopAtLevel=1", ...options, "-cp", classPath, name, ...args] };
}

function java(name: string, properties: readonly string[], idleMs: number, tickMs: number): PeerSetting {
  return {
    name,
    documented: { idleMs, requests: ANY, announcedMs: undefined, tickMs },
    prepare: (_folder, port) => javaCommand("Server", [], properties, [String(port)]),
  };
}

const TOMCAT = "/usr/share/java/tomcat10-embed-core.jar";

function tomcat(name: string, attributes: readonly string[], documented: PeerSetting["documented"]): PeerSetting {
  return {
    name,
    // It looks for idle connections once a second.
    documented: { ...documented, tickMs: 1000 },
    prepare: (folder, port) => javaCommand("TomcatServer", [TOMCAT], [], [String(port), folder, ...attributes]),
  };
}

const JETTY = "/usr/share/java/jetty9-server.jar";
const JETTY_JARS = [
  JETTY,
  ...["jetty9-util", "jetty9-io", "jetty9-http", "servlet-api"].map((jar) => `/usr/share/java/${jar}.jar`),
];

function jetty(name: string, idleTimeout: readonly string[], idleMs: number): PeerSetting {
  return {
    name,
    documented: { idleMs, requests: ANY, announcedMs: undefined },
    prepare: (_folder, port) => javaCommand("JettyServer", JETTY_JARS, [], [String(port), ...idleTimeout]),
  };
}

/** The servers. */
export const PEERS: readonly RealPeer[] = [
  {
    name: "nginx",
    programs: ["nginx"],
    version: ["nginx", "-v"],
    settings: [
      nginx("defaults", "", { idleMs: 75_000, requests: 1000, announcedMs: undefined }),
      nginx("keepalive_timeout 1s 1s; keepalive_requests 5;", "keepalive_timeout 1s 1s; keepalive_requests 5;", {
        idleMs: 1000,
        requests: 5,
        announcedMs: 1000,
      }),
      nginx("keepalive_timeout 1s 3s;", "keepalive_timeout 1s 3s;", {
        idleMs: 1000,
        requests: 1000,
        announcedMs: 3000,
      }),
    ],
  },
  {
    name: "HAProxy",
    programs: ["haproxy"],
    version: ["haproxy", "-v"],
    settings: [
      haproxy("Debian's timeout client 50000", ["timeout client 50000"], {
        idleMs: 50_000,
        requests: ANY,
        announcedMs: undefined,
      }),
      haproxy("timeout http-keep-alive 1s", ["timeout client 50000", "timeout http-keep-alive 1s"], {
        idleMs: 1000,
        requests: ANY,
        announcedMs: undefined,
      }),
      haproxy("timeout client 1500ms", ["timeout client 1500ms"], {
        idleMs: 1500,
        requests: ANY,
        announcedMs: undefined,
      }),
    ],
  },
  {
    name: "Apache httpd",
    programs: ["apache2"],
    version: ["apache2", "-v"],
    settings: [
      apache("defaults", [], { idleMs: 5000, requests: 101, announcedMs: 5000 }),
      apache("KeepAliveTimeout 1, MaxKeepAliveRequests 5", ["KeepAliveTimeout 1", "MaxKeepAliveRequests 5"], {
        idleMs: 1000,
        requests: 6,
        announcedMs: 1000,
      }),
      apache("KeepAliveTimeout 2, MaxKeepAliveRequests 0", ["KeepAliveTimeout 2", "MaxKeepAliveRequests 0"], {
        idleMs: 2000,
        requests: ANY,
        announcedMs: 2000,
      }),
    ],
  },
  {
    name: "Caddy",
    programs: ["caddy"],
    version: ["caddy", "version"],
    settings: [
      caddy("defaults", "", { idleMs: 300_000, requests: ANY, announcedMs: undefined }),
      caddy("timeouts idle 1s", "  servers {\n    timeouts {\n      idle 1s\n    }\n  }", {
        idleMs: 1000,
        requests: ANY,
        announcedMs: undefined,
      }),
      caddy("timeouts idle 2s", "  servers {\n    timeouts {\n      idle 2s\n    }\n  }", {
        idleMs: 2000,
        requests: ANY,
        announcedMs: undefined,
      }),
    ],
  },
  {
    name: "Node.js http",
    programs: [],
    version: [process.execPath, "--version"],
    settings: [
      node("defaults", {}, { idleMs: 5000, requests: ANY, announcedMs: 5000 }),
      node("keepAliveTimeout = 1000", { KEEP_ALIVE_MS: "1000" }, { idleMs: 1000, requests: ANY, announcedMs: 1000 }),
      node(
        "keepAliveTimeout = 2000, maxRequestsPerSocket = 5",
        { KEEP_ALIVE_MS: "2000", MOST: "5" },
        { idleMs: 2000, requests: 5, announcedMs: 2000 },
      ),
    ],
  },
  {
    name: "Python http.server",
    programs: ["python3"],
    version: ["python3", "--version"],
    settings: [
      python("defaults with HTTP/1.1", undefined, ANY),
      python("timeout = 1", "1", 1000),
      python("timeout = 1.5", "1.5", 1500),
    ],
  },
  {
    name: "gunicorn (gthread)",
    programs: ["gunicorn"],
    version: ["gunicorn", "--version"],
    settings: [
      gunicorn("defaults", [], 2000),
      gunicorn("--keep-alive 1", ["--keep-alive", "1"], 1000),
      gunicorn("--keep-alive 3", ["--keep-alive", "3"], 3000),
    ],
  },
  {
    name: "uvicorn",
    programs: ["uvicorn"],
    version: ["uvicorn", "--version"],
    settings: [
      uvicorn("defaults", [], 5000),
      uvicorn("--timeout-keep-alive 1", ["--timeout-keep-alive", "1"], 1000),
      uvicorn("--timeout-keep-alive 2", ["--timeout-keep-alive", "2"], 2000),
    ],
  },
  {
    name: "Java com.sun.net.httpserver",
    programs: ["java", "javac"],
    version: ["java", "-version"],
    settings: [
      java("defaults", [], 30_000, 10_000),
      java(
        "idleInterval=1, clockTick=500",
        ["-Dsun.net.httpserver.idleInterval=1", "-Dsun.net.httpserver.clockTick=500"],
        1000,
        500,
      ),
      java(
        "idleInterval=2, clockTick=100",
        ["-Dsun.net.httpserver.idleInterval=2", "-Dsun.net.httpserver.clockTick=100"],
        2000,
        100,
      ),
    ],
  },
  {
    name: "Tomcat, embedded",
    programs: ["java", "javac", TOMCAT],
    version: ["java", "-cp", TOMCAT, "org.apache.catalina.util.ServerInfo"],
    settings: [
      tomcat("defaults", [], { idleMs: 60_000, requests: 100, announcedMs: 60_000 }),
      tomcat("keepAliveTimeout=1000, maxKeepAliveRequests=5", ["keepAliveTimeout=1000", "maxKeepAliveRequests=5"], {
        idleMs: 1000,
        requests: 5,
        announcedMs: 1000,
      }),
      tomcat(
        "connectionTimeout=2000, useKeepAliveResponseHeader=false",
        ["connectionTimeout=2000", "useKeepAliveResponseHeader=false"],
        { idleMs: 2000, requests: 100, announcedMs: undefined },
      ),
    ],
  },
  {
    name: "Jetty, embedded",
    programs: ["java", "javac", JETTY],
    version: [
      "java",
      "-Dorg.eclipse.jetty.util.log.announce=false",
      ...["-cp", JETTY_JARS.join(":"), "org.eclipse.jetty.server.Server"],
    ],
    settings: [
      jetty("defaults", [], 30_000),
      jetty("idleTimeout=1000", ["1000"], 1000),
      jetty("idleTimeout=2000", ["2000"], 2000),
    ],
  },
];
