// /api/health, and methods that a route does not take.

import assert from "node:assert/strict";
import { test } from "node:test";

import { closedUrl, dashboardAt, dashboardFor } from "../testing/helpers.js";

const HEALTH = { state: "loading", progress: 0.25, model: "m", context_size: 4096, reason: null };

function withHealth(status, body) {
  return (request, response) => {
    const found = request.url === "/health";
    response.writeHead(found ? status : 404, { "Content-Type": "application/json" });
    response.end(found ? JSON.stringify(body) : "{}");
  };
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

test("another method: a 405 that says which", async (t) => {
  const url = await dashboardAt(t, await closedUrl());
  for (const [path, method, allowed] of [
    ["/api/health", "DELETE", "GET"],
    ["/api/session", "PUT", "GET, POST, DELETE"],
    ["/api/metrics", "POST", "GET"],
    ["/api/tokens", "GET", "POST"],
    ["/api/responses", "GET", "POST"],
    ["/api/responses/resp_1", "PUT", "GET, DELETE"],
    ["/api/responses/resp_1/events", "POST", "GET"],
    ["/api/responses/resp_1/cancel", "GET", "POST"],
    ["/", "PUT", "GET, HEAD"],
  ]) {
    const answer = await fetch(url + path, { method });
    assert.equal(answer.status, 405);
    assert.equal(answer.headers.get("allow"), allowed);
  }
});

test("a route that is none: a 404", async (t) => {
  const url = await dashboardFor(t);
  for (const path of ["/api", "/api/", "/api/other", "/api/responses/a/b", "/api/responses/"]) {
    const answer = await fetch(url + path);
    assert.equal(answer.status, 404, path);
    assert.equal((await answer.json()).error.code, "not_found");
  }
});
