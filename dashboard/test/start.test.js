// `npm start` as a process: what its log says, and how it ends.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { ownAddresses } from "../src/guard.js";
import { beginStream, browserAt, closedUrl, listen, REQUEST } from "../testing/helpers.js";

const SERVER = fileURLToPath(new URL("../server.js", import.meta.url));
const PASSWORD = "correct horse";

/** A backend on a free port: its process, and an iterator of the lines it logs. */
function started(t, settings) {
  const env = { ...process.env, PORT: "0", ...settings };
  const child = spawn(process.execPath, [SERVER], { env, stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
}

test("a signal ends it at once, in the middle of a stream", async (t) => {
  const llm = await listen(
    t,
    createServer((request, response) => {
      if (request.method === "POST") beginStream(response);
      else response.end();
    }),
  );
  const { child, lines } = started(t, { LLM_URL: llm });
  const { value: line } = await lines.next();
  const [, url] = /^dashboard on (http:\/\/127\.0\.0\.1:\d+) for \S+$/.exec(line);
  const answer = await browserAt(url).ask("POST", "/api/responses", REQUEST);
  assert.equal(answer.status, 200);
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [0, null]);
  await assert.rejects(answer.text());
});

test("on the network it says where other machines find it, behind the first line", async (t) => {
  const settings = { HOST: "0.0.0.0", DASHBOARD_PASSWORD: PASSWORD, LLM_URL: await closedUrl() };
  const { lines } = started(t, settings);
  const { value: line } = await lines.next();
  const [, port] = /^dashboard on http:\/\/0\.0\.0\.0:(\d+) for \S+$/.exec(line);
  const browser = browserAt(`http://127.0.0.1:${port}`);
  assert.equal((await browser.ask("GET", "/")).headers.get("location"), "/login.html");
  const others = ownAddresses("0.0.0.0").map((address) => `http://${address}:${port}`);
  if (others.length === 0) return;
  assert.equal((await lines.next()).value, `other machines open ${others.join(" or ")}`);
  assert.equal((await browserAt(others[0]).ask("GET", "/login.html")).status, 200);
});

test("on the network without a password it does not start, and says what to set", () => {
  const env = { ...process.env, HOST: "0.0.0.0" };
  const done = spawnSync(process.execPath, [SERVER], { env, encoding: "utf8" });
  assert.deepEqual([done.status, done.stdout], [1, ""]);
  assert.match(done.stderr, /^dashboard: HOST is "0\.0\.0\.0", .+ DASHBOARD_PASSWORD .+\n$/);
});
