// What the page of metrics makes of samples.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as figures from "../public/metrics/figures.js";
import { speedNow } from "../public/metrics/panels/generated.js";
import { PANELS } from "../public/metrics/panels.js";
import { Text } from "../public/metrics/text.js";
import { histogram, quantile, shownBuckets } from "../public/metrics/times.js";
import { WORDS } from "../public/metrics/words.js";

const { bins, gaps, growth, rates, restarts, thin, values, withUnseen } = figures;

function sample(t, fields = {}) {
  return {
    t: 1000 * t,
    up: true,
    state: "ready",
    tokens: 0,
    generated: 0,
    prompt: 0,
    cached: 0,
    disk: 0,
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
const tokens = (each) => each.tokens;

test("a rate is what a count has grown; a server that starts again counts from 0", () => {
  const samples = [
    sample(0, { tokens: 10 }),
    sample(2, { tokens: 30 }),
    sample(4, { tokens: 5 }),
    sample(6, { tokens: 6 }),
    away(8),
    sample(10, { tokens: 9 }),
  ];
  assert.deepEqual(rates(samples, tokens), [null, 10, 2.5, 0.5, null, null]);
  assert.equal(growth(samples, tokens), 20 + 5 + 1 + 3);
});

test("one count that fell tells of the start for all others, also for those that did not fall", () => {
  const samples = [
    sample(0, { tokens: 50, requests: { ok: 1 } }),
    sample(2, { tokens: 4, requests: { ok: 3 } }),
  ];
  assert.equal(growth(samples, figures.requestsOf), 3);
  assert.deepEqual(bins(samples, 10, [figures.requestsOf]).values, [[3]]);
});

test("a while without the server is a gap, and one in which nobody looked is another", () => {
  assert.deepEqual(gaps([sample(4), sample(6), away(8), away(10), sample(12)]), [[6, 12]]);
  assert.deepEqual(gaps([away(0), away(2), sample(4)]), [[0, 4]]);
  assert.deepEqual(gaps([sample(0), away(2)], { to: 9 }), [[0, 9]]); // which goes on
  assert.deepEqual(gaps([sample(0), away(4), sample(8)], { from: 3 }), [[3, 8]]);

  const slept = withUnseen([sample(0), sample(2, { tokens: 9 }), sample(60), sample(62)], 2);
  assert.deepEqual(gaps(slept), []);
  assert.deepEqual(gaps(slept, { unseen: true }), [[2, 60]]);
  assert.deepEqual(values(slept, tokens), [0, 9, null, 0, 0]);
});

test("restarts are where the count grows, also while the server was away or began anew", () => {
  const samples = [sample(0), sample(2, { restarts: 1 }), away(4), sample(6, { restarts: 2 })];
  assert.deepEqual(restarts(samples), [2, 6]);
  const anew = [sample(0, { restarts: 2, tokens: 5 }), sample(2, { restarts: 1, tokens: 1 })];
  assert.deepEqual(restarts(anew), [2]);
});

test("bars stand on the clock, and say how much there was in each", () => {
  const counts = [0, 1, 1, 4, 4, 10].map((n, i) => sample(6 + 2 * i, { tokens: n }));
  assert.deepEqual(bins(counts, 10, [tokens]), { x: [5, 15], values: [[1, 9]] });
  assert.deepEqual(bins([sample(0), away(2)], 10, [tokens]), { x: [], values: [[]] });
  const apart = [sample(1), sample(2, { tokens: 2 }), sample(31, { tokens: 3 })];
  assert.deepEqual(bins(apart, 10, [tokens]).values, [[2, null, null, 1]]);
});

test("thinned samples stay the same while time goes on, and keep peaks and gaps", () => {
  const samples = Array.from({ length: 300 }, (_, i) =>
    i >= 100 && i < 103 ? away(2 * i) : sample(2 * i, { tokens: i, queued: i === 41 ? 7 : 0 }),
  );
  const thinned = thin(samples, 20);
  assert.equal(thinned.length, 30 + 1); // the gap shares its cell with what came behind it
  const later = thin([...samples.slice(10), sample(600), sample(602)], 20);
  assert.deepEqual(later.slice(0, 20), thinned.slice(1, 21));
  assert.deepEqual(
    thinned.filter(({ queued }) => queued === 7).map(({ t }) => t),
    [98_000],
  );
  assert.equal(thinned.filter(({ up }) => !up).length, 1);
  assert.equal(growth(thinned, tokens), 299 - 9); // of which the first cell's is before it
});

test("times in buckets: which are shown, and quantiles", () => {
  const bounds = [0.1, 1, 10];
  const counted = (buckets, count) => ({ first_token: { buckets, count, sum_s: 0 } });
  const samples = [sample(0, counted([1, 1, 1], 1)), sample(2, counted([1, 3, 4], 5))];
  const counts = histogram(samples, bounds);
  assert.deepEqual(counts, [0, 2, 1, 1]);
  assert.deepEqual(shownBuckets(counts), [0, 4]);
  assert.deepEqual(shownBuckets([0, 0, 3, 0, 0, 0]), [1, 4]);
  assert.deepEqual(shownBuckets([0, 0, 0]), [0, 0]);
  assert.equal(quantile(counts, bounds, 0.5), 1);
  assert.equal(quantile(counts, bounds, 0.25), 0.1 + 0.9 / 2);
  assert.equal(quantile(counts, bounds, 1), Infinity);
  assert.equal(quantile([0, 0], [1], 0.5), null);
  const anew = [...samples, sample(4, counted([1, 1, 1], 1))];
  assert.deepEqual(histogram(anew, bounds), [1, 2, 1, 1]);
});

const BOUNDS = [0.1, 1, 10];
const BUSY = [
  sample(0),
  sample(2, {
    tokens: 40,
    prompt: 90,
    cached: 30,
    disk: 12,
    requests: { ok: 1000, queue_full: 1, engine_crashed: 2, of_a_new_kind: 1 },
    first_token: { count: 3, sum_s: 1, buckets: [1, 2, 2] },
    running: 2,
    queued: 1,
    cells_used: 70,
  }),
];

test("every panel draws and says something in both languages, also of nothing", () => {
  const unknown = sample(2, { running: null, queued: null, cells: null, cells_used: null });
  for (const samples of [BUSY, [sample(0)], [sample(0), unknown], [away(0)], []]) {
    for (const { id, draw, say } of PANELS) {
      const drawn = draw({ samples, seen: samples, bounds: BOUNDS, binS: 10 });
      for (const { values: drawnValues, name } of drawn.series) {
        assert.equal(drawnValues.length, (drawn.x ?? drawn.labels).length, id);
        for (const words of Object.values(WORDS)) assert.ok(words.series[name], name);
      }
      for (const [language, words] of Object.entries(WORDS)) {
        assert.ok(words.panels[id], id);
        const said = say({ samples, bounds: BOUNDS }, words.says, new Text(language, []));
        assert.match(said, /\.$/);
        assert.doesNotMatch(said, /NaN|undefined|null|Infinity/);
      }
    }
  }
});

test("what the panels say", () => {
  const says = (samples, language) => {
    const text = new Text(language, []);
    return PANELS.map(({ say }) => say({ samples, bounds: BOUNDS }, WORDS[language].says, text));
  };
  const plain = (said) => said.map((each) => each.replaceAll("\u00a0", " "));
  assert.deepEqual(plain(says(BUSY, "en")), [
    "20.0 tokens/s now; from 20.0 to 20.0 in this time.",
    "90 tokens read; the cache had 30 of them (33%). 12 of these came from its disk.",
    "3 answers: half began within 0.55 s, 95 of 100 after more than 10 s.",
    "70 of 100 in use now, at most 70; 0 keep prefixes for later.",
    "2 at work now, at most 2; 1 waiting, at most 1.",
    "1,000 without error, 0 left by the client, 1 refused, 3 failed.",
  ]);
  assert.deepEqual(plain(says(BUSY, "es")).slice(0, 3), [
    "20,0 tokens/s ahora; entre 20,0 y 20,0 en este tiempo.",
    "90 tokens leídos; 30 ya estaban en la caché (33 %). 12 de ellos vinieron de su disco.",
    "3 respuestas: la mitad empezó en menos de 0,55 s; 95 de cada 100, tras más de 10 s.",
  ]);
  assert.deepEqual(says([sample(0), away(2)], "en"), [
    "No figures in this time.",
    "No prompt was read in this time.",
    "No answer began in this time.",
    "No figures now.",
    "No figures now.",
    "No request ended in this time.",
  ]);
  assert.equal(speedNow(BUSY), 20);
  assert.equal(speedNow([...BUSY, away(4)]), null);
  assert.equal(speedNow([]), null);
});

test("numbers are those of the reader's country, where the language is the page's", () => {
  const noon = new Date(2026, 10, 27, 13, 5, 9).getTime() / 1000;
  assert.equal(new Text("en", ["es-MX", "en-GB"]).time(noon), "13:05:09");
  assert.match(new Text("en", ["en-US"]).time(noon, false), /^1:05\sPM$/);
  assert.equal(new Text("es", ["en-GB"]).locale, "es");
  assert.equal(new Text("en", []).tick(15_000, 15_000), "15K");
  assert.equal(new Text("en", []).tick(5_000, 8_000), "5,000");
});

test("both languages have every word", () => {
  const shape = (words) =>
    Object.entries(words).map(([key, value]) =>
      typeof value === "object" ? [key, shape(value)] : [key, typeof value],
    );
  assert.deepEqual(shape(WORDS.es), shape(WORDS.en));
});
