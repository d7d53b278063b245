// Who may call: names in Host, other sites, and machines beside this one.

import assert from "node:assert/strict";
import { hostname, networkInterfaces } from "node:os";
import { test } from "node:test";

import { Guard, isLoopback } from "../src/guard.js";
import { dashboardFor, raw } from "../testing/helpers.js";

/** Whether a guard lets a request in: null, or the code of its problem. */
function refusal(guard, headers, { method = "GET", url = "/" } = {}) {
  try {
    guard.check({ method, url, headers: { host: "localhost:3000", ...headers } });
    return null;
  } catch (problem) {
    assert.equal(problem.status, 403);
    return problem.code;
  }
}

test("a name that another site made point here is refused, on every route", async (t) => {
  const url = await dashboardFor(t);
  for (const path of ["/", "/api/health", "/api/session", "/login.html", "/icon.svg"]) {
    assert.equal(await raw(url, path, { Host: "foreign.example" }), 403, path);
  }
  assert.equal(await raw(url, "/", { Host: "localhost:3000" }), 200);
});

test("on the loopback, only its names are taken", () => {
  const guard = new Guard("127.0.0.1", ["box.lan", "other.lan:8443"]);
  for (const host of [
    "localhost",
    "LOCALHOST:3000",
    "127.0.0.1",
    "[::1]:3000",
    "box.lan",
    "box.lan:99",
    "other.lan:8443",
  ]) {
    assert.equal(refusal(guard, { host }), null, host);
  }
  for (const host of [
    undefined,
    "",
    "%",
    "foreign.example",
    "127.0.0.1.foreign.example:3000",
    "localhost@foreign.example",
    "192.168.7.7",
    "other.lan",
    hostname(),
  ]) {
    assert.equal(refusal(guard, { host }), "forbidden_host", host);
  }
});

test("on the network, this machine's own names and addresses are taken too", () => {
  const guard = new Guard("0.0.0.0");
  const found = Object.values(networkInterfaces()).flat();
  const addresses = found.filter(({ internal, family }) => !internal && family === "IPv4");
  const own = [hostname(), `${hostname().split(".")[0]}.local`, "localhost", "0.0.0.0"];
  for (const host of [...own, ...addresses.map(({ address }) => address)]) {
    assert.equal(refusal(guard, { host: `${host}:3000` }), null, host);
  }
  for (const host of ["foreign.example", "203.0.113.9"]) {
    assert.equal(refusal(guard, { host }), "forbidden_host", host);
  }
});

test("another origin changes nothing, and reads nothing", () => {
  const guard = new Guard("127.0.0.1", ["box.lan"]);
  const api = "/api/session";
  for (const [headers, request, code] of [
    [{}, { method: "POST", url: api }, null],
    [{ origin: "http://localhost:3000" }, { method: "POST", url: api }, null],
    [{ origin: "https://box.lan", host: "box.lan" }, { method: "POST", url: api }, null],
    [{ "sec-fetch-site": "same-origin" }, { method: "DELETE", url: api }, null],
    [{ "sec-fetch-site": "none" }, { url: api }, null],
    [{ "sec-fetch-site": "cross-site" }, { url: "/" }, null], // a link from another site
    [{ origin: "http://localhost:4000" }, { method: "POST", url: api }, "forbidden_origin"],
    [{ origin: "null" }, { method: "POST", url: api }, "forbidden_origin"],
    [{ origin: "http://foreign.example" }, { method: "DELETE", url: api }, "forbidden_origin"],
    [{ "sec-fetch-site": "cross-site" }, { method: "POST", url: api }, "forbidden_origin"],
    [{ "sec-fetch-site": "cross-site" }, { url: api }, "forbidden_origin"],
    [{ "sec-fetch-site": "same-site" }, { url: api }, "forbidden_origin"], // another port
    [{ "sec-fetch-site": "cross-site" }, { method: "POST", url: "/" }, "forbidden_origin"],
  ]) {
    assert.equal(refusal(guard, headers, request), code, JSON.stringify([headers, request]));
  }
});

test("another origin is refused before anything else is looked at", async (t) => {
  const url = await dashboardFor(t);
  const headers = { method: "POST", Host: "localhost", Origin: "http://foreign.example" };
  for (const path of ["/api/responses", "/api/session", "/api/tokens", "/no-such-file"]) {
    assert.equal(await raw(url, path, headers), 403, path);
  }
});

test("which hosts are this machine's alone", () => {
  for (const host of ["127.0.0.1", "127.9.9.9", "::1", "localhost"]) {
    assert.ok(isLoopback(host), host);
  }
  for (const host of ["0.0.0.0", "::", "192.168.1.2", "box.lan", "127.0.0.1.foreign.example"]) {
    assert.ok(!isLoopback(host), host);
  }
});
