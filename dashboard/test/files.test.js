// The page's files and those of packages: which, under which policy, and that no path leads out.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { policyOf } from "../src/policy.js";
import { missingPackages } from "../src/vendor.js";
import { browserAt, dashboardFor, raw } from "../testing/helpers.js";

const SCRIPT = "text/javascript; charset=utf-8";
const STYLE = "text/css; charset=utf-8";

for (const [path, type] of [
  ["/", "text/html; charset=utf-8"],
  ["/?anything", "text/html; charset=utf-8"],
  ["/index.html", "text/html; charset=utf-8"],
  ["/icon.svg", "image/svg+xml"],
  ["/css/base.css", STYLE],
  ["/shared/theme.js", SCRIPT],
  ["/vendor/preact.js", SCRIPT],
  ["/vendor/preact-hooks.js", SCRIPT],
  ["/vendor/signals-core.js", SCRIPT],
  ["/vendor/signals.js", SCRIPT],
  ["/vendor/htm.js", SCRIPT],
  ["/vendor/marked.js", SCRIPT],
  ["/vendor/purify.js", SCRIPT],
  ["/vendor/highlight.js", SCRIPT],
  ["/vendor/uplot.js", SCRIPT],
  ["/vendor/uplot.css", STYLE],
  ["/vendor/pdf.js", SCRIPT],
  ["/vendor/pdf.worker.js", SCRIPT],
  ["/vendor/cmaps/78-H.bcmap", "application/octet-stream"],
  ["/vendor/standard_fonts/FoxitFixed.pfb", "application/octet-stream"],
]) {
  test(`GET ${path}`, async (t) => {
    const url = await dashboardFor(t);
    const answer = await fetch(url + path);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), type);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("cross-origin-resource-policy"), "same-origin");
    assert.match(answer.headers.get("content-security-policy"), /^default-src 'none'; /);
    const size = (await answer.arrayBuffer()).byteLength;
    assert.ok(size > 100);
    const head = await fetch(url + path, { method: "HEAD" });
    assert.equal(head.headers.get("content-length"), String(size));
  });
}

test("a file that the browser has is not sent again", async (t) => {
  const url = await dashboardFor(t);
  const tag = (await fetch(`${url}/icon.svg`)).headers.get("etag");
  const headers = { "If-None-Match": tag };
  const again = await fetch(`${url}/icon.svg`, { headers, cache: "no-store" });
  assert.equal(again.status, 304);
  assert.equal((await fetch(`${url}/`, { headers, cache: "no-store" })).status, 200);
});

test("no path leads out of the folders", async (t) => {
  const url = await dashboardFor(t);
  for (const path of [
    "/../server.js",
    "/css/../../server.js",
    "/%2e%2e/server.js",
    "/..%2fserver.js",
    "/css/..%2f..%2fserver.js",
    "/css\\..\\..\\server.js",
    "/.%00./server.js",
    "//etc/passwd",
    "/vendor/../server.js",
    "/vendor/../../package.json",
    "/vendor/cmaps/../package.json",
    "/vendor/cmaps/..%2fpackage.json",
    "/vendor/cmaps/LICENSE",
    "/vendor/preact/package.json",
    "/vendor/",
    "/vendor",
    "/node_modules/preact/package.json",
    "/public/index.html",
    "/src/dashboard.js",
    "/no-such-file.js",
    "/index.html/",
    "/index.html/x.js",
    "/css",
    "/css/",
    "/__proto__",
    "/constructor.js",
    "http://localhost/../server.js",
  ]) {
    assert.equal(await raw(url, path, { Host: "localhost" }), 404, path);
  }
});

test("the policy allows the import map of a file, and no other script inside it", () => {
  const map = '\n  {"imports": {"preact": "/vendor/preact.js"}}\n';
  const page = `<script type="importmap">${map}</script><script>evil()</script>`;
  const hash = createHash("sha256").update(map).digest("base64");
  const found = policyOf(Buffer.from(page));
  assert.ok(found.includes(`script-src 'self' 'sha256-${hash}'; `), found);
  assert.equal(found.match(/sha256-/g).length, 1);
  assert.ok(!found.includes("unsafe"));
});

test("the page has the policy of its own import map", async (t) => {
  const answer = await browserAt(await dashboardFor(t)).ask("GET", "/");
  const page = await readFile(new URL("../public/index.html", import.meta.url));
  assert.equal(answer.headers.get("content-security-policy"), policyOf(page));
});

test("every package is installed", () => assert.deepEqual(missingPackages(), []));
