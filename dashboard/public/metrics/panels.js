// The panels: what each draws of the samples, and what it says in a sentence. A new panel is one more
// object in PANELS; it knows nothing of the page.
//
// `draw(seen)` gives { x, series: [{ name, values, colour, area?, dash? }] } over time, or with
// `labels` over them; `say(seen, page)` gives the sentence. `seen` is { samples, bounds }, the samples
// that are shown; `page` is { words, number }.

import { growth, histogram, quantile, rates, shownBuckets, values } from "./figures.js";

const FAILED = ["engine_crashed", "timeout", "error"];
const REFUSED = ["invalid", "unauthorized", "queue_full", "unavailable"];

export const PANELS = [
  {
    id: "generated",
    draw: ({ samples }) => ({
      x: timesOf(samples),
      series: [{ name: "generated", values: speedOf(samples), colour: 1, area: true }],
    }),
    say: ({ samples }, { words, number }) => {
      const known = speedOf(samples).filter((each) => each !== null);
      return words.says.generated(number(known.at(-1) ?? 0, 1), number(Math.max(0, ...known), 1));
    },
  },
  {
    id: "prompt",
    draw: ({ samples }) => ({
      x: timesOf(samples),
      series: [
        { name: "computed", values: rates(samples, computedOf), colour: 1, area: true },
        { name: "cached", values: rates(samples, ({ cached }) => cached), colour: 2, dash: true },
      ],
    }),
    say: ({ samples }, { words, number }) => {
      const [computed, cached] = [computedOf, (each) => each.cached].map((f) => growth(samples, f));
      return words.says.prompt(number(computed), number(cached));
    },
  },
  {
    id: "first",
    draw: ({ samples, bounds }) => {
      const counts = histogram(known(samples), bounds);
      const [begin, end] = shownBuckets(counts);
      return {
        labels: [...bounds, Infinity].slice(begin, end),
        series: [{ name: "first", values: counts.slice(begin, end), colour: 1 }],
      };
    },
    say: ({ samples, bounds }, { words, number }) => {
      const counts = histogram(known(samples), bounds);
      const n = counts.reduce((sum, count) => sum + count, 0);
      if (n === 0) return words.says.firstNone;
      const time = (share) => secondsText(quantile(counts, bounds, share), words, number);
      return words.says.first(number(n), time(0.5), time(0.95));
    },
  },
  {
    id: "cells",
    draw: ({ samples }) => ({
      x: timesOf(samples),
      series: [
        { name: "used", values: values(samples, (each) => each.cells_used), colour: 1, area: true },
        { name: "kept", values: values(samples, (each) => each.cells_cached), colour: 2, dash: true },
        { name: "all", values: values(samples, (each) => each.cells), colour: 4 },
      ],
    }),
    say: ({ samples }, { words, number }) => {
      const { cells, cells_used: used, cells_cached: kept } = known(samples).at(-1) ?? {};
      if (!Number.isFinite(cells)) return words.says.cellsNone;
      return words.says.cells(number(used ?? 0), number(kept ?? 0), number(cells));
    },
  },
  {
    id: "requests",
    draw: ({ samples }) => ({
      x: timesOf(samples),
      whole: true,
      series: [
        { name: "running", values: values(samples, ({ running }) => running), colour: 1, area: true },
        { name: "queued", values: values(samples, ({ queued }) => queued), colour: 3, dash: true },
        { name: "background", values: values(samples, (each) => each.background), colour: 2 },
      ],
    }),
    say: ({ samples }, { words, number }) => {
      const { running = 0, queued = 0 } = known(samples).at(-1) ?? {};
      return words.says.requests(number(running ?? 0), number(queued ?? 0));
    },
  },
  {
    id: "outcomes",
    draw: ({ samples }) => ({
      x: timesOf(samples),
      series: [
        { name: "ok", values: perMinute(samples, ["ok"]), colour: 1, area: true },
        { name: "refused", values: perMinute(samples, REFUSED), colour: 3, dash: true },
        { name: "failed", values: perMinute(samples, FAILED), colour: 5 },
        { name: "gone", values: perMinute(samples, ["client_gone"]), colour: 2, dash: true },
      ],
    }),
    say: ({ samples }, { words, number }) => {
      const ended = (names) => growth(samples, (sample) => sumOf(sample, names));
      const others = ended([...REFUSED, ...FAILED, "client_gone"]);
      return words.says.outcomes(number(ended(["ok"])), number(others));
    },
  },
];

/** Tokens a second now, of all answers together; null where it is not known. */
export function speedNow(samples) {
  return speedOf(samples.slice(-3)).at(-1) ?? null;
}

export function secondsText(seconds, words, number) {
  if (seconds === Infinity) return words.beyond;
  return words.seconds(number(seconds, seconds < 1 ? 2 : 1));
}

function timesOf(samples) {
  return samples.map(({ t }) => t / 1000);
}

function known(samples) {
  return samples.filter(({ up }) => up);
}

function speedOf(samples) {
  return rates(samples, ({ tokens }) => tokens);
}

function computedOf({ prompt, cached }) {
  return prompt - cached;
}

function perMinute(samples, names) {
  return rates(samples, (sample) => sumOf(sample, names)).map((rate) => rate && 60 * rate);
}

function sumOf({ requests }, names) {
  return names.reduce((sum, name) => sum + (requests[name] ?? 0), 0);
}
