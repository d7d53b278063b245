// Times that are known by buckets: how many in each, and the shares of them. Pure.

import { grown, steps } from "./figures.js";

/** How many times to the first token were in each bucket: of `bounds` (seconds), and beyond the last
 * of them. */
export function histogram(samples, bounds) {
  const counts = new Array(bounds.length + 1).fill(0);
  for (const [before, after] of steps(samples)) {
    let below = 0;
    for (const i of counts.keys()) {
      const upTo = grown(before, after, ({ first_token: { buckets, count } }) => buckets[i] ?? count);
      counts[i] += Math.max(0, upTo - below);
      below = upTo;
    }
  }
  return counts;
}

/** The time below which a share of a histogram's times is, as a bucket tells it: evenly spread in
 * it; null without any, Infinity beyond the last bound. */
export function quantile(counts, bounds, share) {
  const wanted = share * total(counts);
  if (wanted === 0) return null;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (below + count >= wanted && count > 0) {
      if (i === bounds.length) return Infinity;
      const begin = i === 0 ? 0 : bounds[i - 1];
      return begin + ((wanted - below) / count) * (bounds[i] - begin);
    }
    below += count;
  }
  return Infinity;
}

export function total(counts) {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** The buckets that are worth showing: from the first to the last with something, and one around. */
export function shownBuckets(counts) {
  const first = counts.findIndex((count) => count > 0);
  if (first === -1) return [0, 0];
  const last = counts.findLastIndex((count) => count > 0);
  return [Math.max(0, first - 1), Math.min(counts.length, last + 2)];
}
