// Calls with Node's fetch and prints one line of JSON per answer. HTTP_PROXY and the like come from the environment.
// usage: fetch.mjs URL
const [url] = process.argv.slice(2);
const text = new ReadableStream({
  start(controller) {
    controller.enqueue(new TextEncoder().encode("in "));
    controller.enqueue(new TextEncoder().encode("two chunks"));
    controller.close();
  },
});
const calls = [
  ["GET", "/one"],
  ["HEAD", "/two"],
  ["POST", "/echo", "a=1"],
  ["POST", "/echo", text],
  ["DELETE", "/three?q=1"],
  ["GET", "/four"],
];
for (const [method, target, body] of calls) {
  const answer = await fetch(`${url}${target}`, { method, body, duplex: "half" });
  const line = {
    call: `${method} ${target}`,
    status: answer.status,
    body: await answer.text(),
    echoed: answer.headers.get("x-body"),
  };
  console.log(JSON.stringify(line));
}
