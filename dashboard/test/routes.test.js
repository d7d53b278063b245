// The page's files, /api/health, settings, and who may call.

import assert from "node:assert/strict";
import { get } from "node:http";
import { test } from "node:test";

import { ConfigError, readConfig } from "../src/config.js";
import { closedUrl, dashboardAt, dashboardFor } from "../testing/helpers.js";

const HEALTH = { state: "loading", progress: 0.25, model: "m", context_size: 4096, reason: null };

function withHealth(status, body) {
  return (request, response) => {
    const found = request.url === "/health";
    response.writeHead(found ? status : 404, { "Content-Type": "application/json" });
    response.end(found ? JSON.stringify(body) : "{}");
  };
}

/** A GET whose Host header and path are sent as they are. */
function raw(url, path, host) {
  return new Promise((resolve, reject) => {
    const { port } = new URL(url);
    const options = { host: "127.0.0.1", port, path, headers: host ? { Host: host } : {} };
    get(options, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
  });
}

test("the health comes with its status", async (t) => {
  for (const status of [200, 503]) {
    const answer = await fetch(`${await dashboardFor(t, withHealth(status, HEALTH))}/api/health`);
    assert.equal(answer.status, status);
    assert.deepEqual(await answer.json(), HEALTH);
  }
});

test("the health of a server that is not there, silent, or another one", async (t) => {
  for (const [url, status, code] of [
    [await dashboardAt(t, await closedUrl()), 502, "server_unreachable"],
    [await dashboardFor(t, () => {}, { limits: { health: 50 } }), 504, "upstream_timeout"],
    [await dashboardFor(t, withHealth(200, { fine: true })), 502, "bad_upstream_response"],
    [await dashboardFor(t, (q, response) => response.end("hi")), 502, "bad_upstream_response"],
  ]) {
    const answer = await fetch(`${url}/api/health`);
    assert.equal(answer.status, status);
    assert.equal((await answer.json()).error.code, code);
  }
});

test("the page and its files", async (t) => {
  const url = await dashboardAt(t, await closedUrl());
  for (const [path, type] of [
    ["/", "text/html; charset=utf-8"],
    ["/?anything", "text/html; charset=utf-8"],
    ["/chat/main.js", "text/javascript; charset=utf-8"],
    ["/css/base.css", "text/css; charset=utf-8"],
    ["/css/chat.css", "text/css; charset=utf-8"],
    ["/vendor/uplot.css", "text/css; charset=utf-8"],
    ["/icon.svg", "image/svg+xml"],
  ]) {
    const answer = await fetch(url + path);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), type);
    assert.match(answer.headers.get("content-security-policy"), /default-src 'none'/);
    assert.ok((await answer.text()).length > 100);
  }
  const head = await fetch(url, { method: "HEAD" });
  assert.equal(head.status, 200);
  assert.ok(Number(head.headers.get("content-length")) > 100);
});

test("no path leads out of the folder", async (t) => {
  const url = await dashboardAt(t, await closedUrl());
  for (const path of [
    "/../server.js",
    "/%2e%2e/server.js",
    "/..%2fserver.js",
    "//etc/passwd",
    "/public/chat/main.js",
    "/no-such-file",
    "/index.html/",
    "/__proto__",
  ]) {
    assert.equal(await raw(url, path), 404, path);
  }
});

test("another method: a 405 that says which", async (t) => {
  const url = await dashboardAt(t, await closedUrl());
  for (const [path, method, allowed] of [
    ["/api/chat", "GET", "POST"],
    ["/api/health", "DELETE", "GET"],
    ["/", "PUT", "GET, HEAD"],
  ]) {
    const answer = await fetch(url + path, { method });
    assert.equal(answer.status, 405);
    assert.equal(answer.headers.get("allow"), allowed);
  }
});

test("a name that another site made point here is refused", async (t) => {
  const url = await dashboardAt(t, await closedUrl());
  for (const [host, status] of [
    ["localhost:3000", 200],
    ["127.0.0.1", 200],
    ["[::1]:3000", 200],
    ["foreign.example", 403],
    ["127.0.0.1.foreign.example:3000", 403],
    ["localhost@foreign.example", 403],
    ["%", 403],
  ]) {
    assert.equal(await raw(url, "/", host), status, host);
  }
});

test("settings have defaults, and LLM_URL may be what OpenAI's clients get", () => {
  const { port, llmUrl, apiKey } = readConfig({});
  assert.equal(port, 3000);
  assert.equal(llmUrl.href, "http://127.0.0.1:8005/");
  assert.equal(apiKey, "");
  assert.equal(readConfig({ LLM_API_KEY: " first , second" }).apiKey, "first");
  for (const [text, href] of [
    ["http://10.0.0.5:9000", "http://10.0.0.5:9000/"],
    ["http://127.0.0.1:8005/v1", "http://127.0.0.1:8005/"],
    ["http://127.0.0.1:8005/v1/", "http://127.0.0.1:8005/"],
    ["https://box.local/llm", "https://box.local/llm/"],
    ["https://box.local/llm/v1", "https://box.local/llm/"],
  ]) {
    assert.equal(readConfig({ LLM_URL: text }).llmUrl.href, href);
  }
});

test("a setting that cannot be used is named", () => {
  for (const [name, text] of [
    ["PORT", "http"],
    ["PORT", "65536"],
    ["PORT", "-1"],
    ["PORT", "1e3"],
    ["LLM_URL", "127.0.0.1:8005"],
    ["LLM_URL", "localhost"],
    ["LLM_URL", "ftp://127.0.0.1"],
    ["LLM_URL", "http://user:word@127.0.0.1"],
    ["LLM_URL", "http://127.0.0.1/?a=b"],
  ]) {
    assert.throws(
      () => readConfig({ [name]: text }),
      (error) => error instanceof ConfigError && error.message.startsWith(`${name} is "${text}"`),
    );
  }
  // A key is in no message.
  for (const text of ["two words", "señal"]) {
    assert.throws(
      () => readConfig({ LLM_API_KEY: text }),
      (error) => error.message.startsWith("LLM_API_KEY has") && !error.message.includes(text),
    );
  }
});
