// What the LLM server's metrics become, and what the page gets of them.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";

import { Sampler } from "../src/metrics.js";
import { parseMetrics } from "../src/prometheus.js";
import * as helpers from "../testing/helpers.js";

const { closedUrl, dashboardAt, dashboardFor, errorOf, listen, promise } = helpers;
// Of a server that has made one answer of 12 tokens and refused one request.
const RECORDED = await readFile(new URL("../testing/metrics.txt", import.meta.url), "utf8");
const HOUR = 60 * 60 * 1000;

async function sampled(t, script, now = () => 1000) {
  const llmUrl = new URL(await listen(t, createServer(script)));
  const sampler = new Sampler({ llmUrl }, now);
  await sampler.sample();
  return sampler;
}

test("a sample has what the server counts and what it does now", async (t) => {
  const sampler = await sampled(t, (request, response) => response.end(RECORDED));
  const { interval_s, now, first_token_le: bounds, samples } = sampler.since(0);
  assert.deepEqual([interval_s, now, bounds.length], [2, 1000, 18]);
  assert.deepEqual([bounds[0], bounds[7], bounds[17]], [0.01, 0.3, 300]);
  assert.deepEqual(samples, [
    {
      t: 1000,
      up: true,
      state: "ready",
      version: "0.1.0",
      fingerprint: "fp_4be178bb8d39",
      tokens: 12,
      generated: 12,
      prompt: 33,
      cached: 0,
      disk: 0,
      drafted: 0,
      accepted: 0,
      requests: { ok: 1, invalid: 1 }, // those for /health are none for an answer
      restarts: 0,
      first_token: {
        count: 1,
        sum_s: 0.29489770800046244,
        buckets: [...Array(7).fill(0), ...Array(11).fill(1)],
      },
      running: 0,
      queued: 0,
      background: 0,
      cells: 16384,
      cells_used: 33,
      cells_cached: 0,
    },
  ]);
});

test("what the server does not know yet is null", async (t) => {
  const loading = RECORDED.split("\n").filter((line) => !line.includes("kv_cells"));
  const sampler = await sampled(t, (request, response) => response.end(loading.join("\n")));
  assert.equal(sampler.since(0).samples[0].cells, null);
});

test("outcomes of the routes for answers are added up", async (t) => {
  const more =
    'sheily_requests_total{outcome="ok",route="/v1/chat/completions"} 4.0\n' +
    'sheily_requests_total{outcome="ok",route="other"} 9.0\n';
  const sampler = await sampled(t, (request, response) => response.end(RECORDED + more));
  assert.deepEqual(sampler.since(0).samples[0].requests, { ok: 5, invalid: 1 });
});

for (const [what, script] of [
  ["refuses", (request, response) => response.writeHead(401).end("{}")],
  ["is another one", (request, response) => response.end("<h1>hello</h1>")],
  ["hangs up", (request) => request.socket.destroy()],
]) {
  test(`a server that ${what} is down, and nothing is logged`, async (t) => {
    const logged = t.mock.method(console, "error", () => {});
    const sampler = await sampled(t, script);
    assert.deepEqual(sampler.since(0).samples, [{ t: 1000, up: false }]);
    assert.equal(logged.mock.callCount(), 0);
  });
}

test("while a server is silent, it is asked once", async (t) => {
  const [arrived, goOn] = [promise(), promise()];
  let asked = 0;
  const script = async (request, response) => {
    asked += 1;
    arrived.resolve();
    await goOn.made;
    response.end(RECORDED);
  };
  const sampler = new Sampler({ llmUrl: new URL(await listen(t, createServer(script))) });
  const first = sampler.sample();
  await arrived.made;
  await sampler.sample();
  goOn.resolve();
  await first;
  assert.equal(asked, 1);
  assert.equal(sampler.since(0).samples.length, 1);
});

test("an hour is kept, and the page gets what is behind its last sample", async (t) => {
  let now = 0;
  const sampler = new Sampler({ llmUrl: new URL(await closedUrl()) }, () => now);
  for (now of [1, 2, 3, HOUR + 2]) await sampler.sample();
  const url = await dashboardAt(t, await closedUrl(), { sampler });
  const times = async (query) => {
    const { samples } = await (await fetch(`${url}/api/metrics${query}`)).json();
    return samples.map(({ t }) => t);
  };
  assert.deepEqual(await times(""), [2, 3, HOUR + 2]);
  assert.deepEqual(await times("?after=2"), [3, HOUR + 2]);
  assert.deepEqual(await times(`?after=${HOUR + 2}`), []);
});

test("a time that is none: a 400", async (t) => {
  const url = await dashboardFor(t);
  for (const after of ["", "x", "-1", "1e3"]) {
    const answer = await fetch(`${url}/api/metrics?after=${after}`);
    assert.equal(answer.status, 400);
    assert.equal((await errorOf(answer)).param, "after");
  }
});

test("labels may have every character", () => {
  const escaped = 'a{b="x,\\"y}\\\\\\n",c="d"} 1e3 1395066363000\n';
  const text = `# HELP a b\n\n${escaped}a -0.5\nx +Inf\ny NaN\n`;
  const found = parseMetrics(text);
  assert.deepEqual(found.get("a"), [
    { labels: new Map([["b", 'x,"y}\\\n'], ["c", "d"]]), value: 1000 },
    { labels: new Map(), value: -0.5 },
  ]);
  assert.equal(found.get("x")[0].value, Infinity);
  assert.ok(Number.isNaN(found.get("y")[0].value));
});

test("what is no line of metrics is refused", () => {
  const unclear = ['a{b="} 1', 'a{b="c" d="e"} 1'];
  for (const line of ["a", "a{b} 1", "a b", "{} 1", '<a href="x">', ...unclear]) {
    assert.throws(() => parseMetrics(line), SyntaxError, line);
  }
});
