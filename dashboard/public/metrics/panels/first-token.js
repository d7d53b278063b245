// How long answers took to begin, as bars over times.

import { histogram, quantile, shownBuckets, total } from "../times.js";

export const firstToken = {
  id: "first",
  draw: ({ seen, bounds }) => {
    const counts = histogram(seen, bounds);
    const [begin, end] = shownBuckets(counts);
    return {
      labels: [...bounds, Infinity].slice(begin, end),
      whole: true,
      series: [{ name: "answers", values: counts.slice(begin, end), colour: 1 }],
    };
  },
  say: ({ samples, bounds }, words, text) => {
    const counts = histogram(samples, bounds);
    const n = total(counts);
    if (n === 0) return words.firstNone;
    const [median, p95] = [0.5, 0.95].map((share) => {
      const time = quantile(counts, bounds, share);
      return time === Infinity
        ? words.longerThan(text.seconds(bounds.at(-1)))
        : words.within(text.seconds(time));
    });
    return words.first(text.number(n), n === 1, median, p95);
  },
};
