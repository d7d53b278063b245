// How requests ended. What has no name here counts as failed, as an outcome that is new to this page
// is hardly a good one.

import { bins, growth, requestsOf } from "../figures.js";

const REFUSED = ["invalid", "unauthorized", "queue_full", "unavailable"];
const NAMED = new Set(["ok", "client_gone", ...REFUSED]);
const COUNTS = {
  ok: (sample) => requestsOf(sample, ["ok"]),
  gone: (sample) => requestsOf(sample, ["client_gone"]),
  refused: (sample) => requestsOf(sample, REFUSED),
  failed: (sample) =>
    requestsOf(
      sample,
      Object.keys(sample.requests).filter((name) => !NAMED.has(name)),
    ),
};
const COLOURS = { ok: 1, gone: 4, refused: 3, failed: 5 };

export const outcomes = {
  id: "outcomes",
  draw: ({ samples, binS }) => {
    const { x, values } = bins(samples, binS, Object.values(COUNTS));
    const series = Object.keys(COUNTS).map((name, i) => ({
      name,
      values: values[i],
      colour: COLOURS[name],
    }));
    return { x, spanS: binS, stacked: true, whole: true, series };
  },
  say: ({ samples }, words, text) => {
    const ended = Object.values(COUNTS).map((count) => growth(samples, count));
    if (ended.every((n) => n === 0)) return words.outcomesNone;
    return words.outcomes(...ended.map((n) => text.number(n)));
  },
};
