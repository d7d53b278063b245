// How full the KV cache is: what requests that run need, what only keeps a prefix, and the limit.

import { most, values } from "../figures.js";

export const cells = {
  id: "cells",
  draw: ({ samples }) => ({
    x: samples.map(({ t }) => t / 1000),
    whole: true,
    stacked: true,
    series: [
      { name: "used", values: values(samples, (each) => each.cells_used), colour: 1, area: true },
      { name: "kept", values: values(samples, (each) => each.cells_cached), colour: 2, area: true },
      { name: "all", values: values(samples, (each) => each.cells), colour: 4, dash: true, solo: true },
    ],
  }),
  say: ({ samples }, words, text) => {
    const last = samples.at(-1);
    if (!last?.up || !last.cells) return words.nothingNow;
    const peak = most(values(samples, (each) => each.cells_used)) ?? 0;
    return words.cells(
      text.number(last.cells_used ?? 0),
      text.number(last.cells),
      text.number(last.cells_cached ?? 0),
      text.number(peak),
    );
  },
};
