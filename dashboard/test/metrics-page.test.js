// What the page of metrics makes of samples.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  gaps,
  growth,
  histogram,
  quantile,
  rates,
  restarts,
  shownBuckets,
  window as windowOf,
} from "../public/metrics/figures.js";
import { PANELS, speedNow } from "../public/metrics/panels.js";
import { WORDS } from "../public/metrics/words.js";

function sample(t, fields = {}) {
  return {
    t: 1000 * t,
    up: true,
    state: "ready",
    tokens: 0,
    generated: 0,
    prompt: 0,
    cached: 0,
    requests: {},
    restarts: 0,
    first_token: { count: 0, sum_s: 0, buckets: [0, 0, 0] },
    running: 0,
    queued: 0,
    background: 0,
    cells: 100,
    cells_used: 0,
    cells_cached: 0,
    ...fields,
  };
}

const away = (t) => ({ t: 1000 * t, up: false });

test("a rate is what a count has grown, and none over a start of the server or a gap", () => {
  const samples = [
    sample(0, { tokens: 10 }),
    sample(2, { tokens: 30 }),
    sample(4, { tokens: 5 }),
    sample(6, { tokens: 6 }),
    away(8),
    sample(10, { tokens: 9 }),
  ];
  assert.deepEqual(rates(samples, ({ tokens }) => tokens), [null, 10, null, 0.5, null, null]);
  assert.equal(growth(samples, ({ tokens }) => tokens), 20 + 5 + 1 + 3);
  assert.deepEqual(gaps(samples), [[6, 10]]);
  assert.deepEqual(gaps([away(0), away(2), sample(4)]), [[0, 4]]);
});

test("restarts are where the count grows", () => {
  const samples = [sample(0), sample(2, { restarts: 1 }), away(4), sample(6, { restarts: 2 })];
  assert.deepEqual(restarts(samples), [2, 6]);
});

test("times in buckets: which are shown, and quantiles", () => {
  const bounds = [0.1, 1, 10];
  const counted = (buckets, count) => ({ first_token: { buckets, count, sum_s: 0 } });
  const samples = [sample(0, counted([1, 1, 1], 1)), sample(2, counted([1, 3, 4], 5))];
  const counts = histogram(samples, bounds);
  assert.deepEqual(counts, [0, 2, 1, 1]);
  assert.deepEqual(shownBuckets(counts), [0, 4]);
  assert.deepEqual(shownBuckets([0, 0, 0]), [0, 0]);
  assert.equal(quantile(counts, bounds, 0.5), 1);
  assert.equal(quantile(counts, bounds, 0.25), 0.1 + 0.9 / 2);
  assert.equal(quantile(counts, bounds, 1), Infinity);
  assert.equal(quantile([0, 0], [1], 0.5), null);
});

test("a window is thinned and keeps the newest", () => {
  const samples = Array.from({ length: 1000 }, (_, i) => sample(2 * i));
  const shown = windowOf(samples, 2_000_000, 1000, 100);
  assert.ok(shown.length <= 100 && shown.length > 80);
  assert.equal(shown.at(-1), samples.at(-1));
  assert.ok(shown[0].t >= 1_000_000);
});

test("every panel draws and says something in both languages, also of nothing", () => {
  const bounds = [0.1, 1, 10];
  const busy = [
    sample(0),
    sample(2, {
      tokens: 40,
      prompt: 90,
      cached: 30,
      requests: { ok: 3, queue_full: 1 },
      first_token: { count: 3, sum_s: 1, buckets: [1, 2, 3] },
      running: 2,
      queued: 1,
      cells_used: 70,
    }),
  ];
  const number = (value, digits = 0) => value.toFixed(digits);
  for (const samples of [busy, [sample(0)], [away(0)], []]) {
    for (const { id, draw, say } of PANELS) {
      const { x, labels, series } = draw({ samples, bounds });
      for (const { values, name } of series) {
        assert.equal(values.length, (x ?? labels).length, id);
        if (id !== "first") assert.ok(WORDS.en.series[name], name);
      }
      for (const words of Object.values(WORDS)) {
        assert.ok(words.panels[id], id);
        assert.doesNotMatch(say({ samples, bounds }, { words, number }), /NaN|undefined|null/);
      }
    }
  }
  const said = PANELS.map(({ say }) => say({ samples: busy, bounds }, { words: WORDS.en, number }));
  assert.deepEqual(said, [
    "20.0 tokens/s now, at most 20.0.",
    "60 tokens computed, 30 found in the cache.",
    "3 answers: half began within 0.55 s, 95 of 100 within 8.6 s.",
    "70 of 100 used by running requests, 0 kept as cache.",
    "2 at work, 1 waiting.",
    "3 answered, 1 otherwise ended.",
  ]);
  assert.equal(speedNow(busy), 20);
  assert.equal(speedNow([]), null);
});

test("both languages have every word", () => {
  const shape = (words) =>
    Object.entries(words).map(([key, value]) =>
      typeof value === "object" ? [key, shape(value)] : [key, typeof value],
    );
  assert.deepEqual(shape(WORDS.es), shape(WORDS.en));
});
