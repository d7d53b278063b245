// What is drawn of the samples: rates of counts, shares, quantiles. Pure; knows the samples as
// src/metrics.js of the backend gives them.

/** Samples of the last `seconds`, at most `points` of them, evenly thinned; the newest is kept. */
export function window(samples, now, seconds, points) {
  const from = now - 1000 * seconds;
  const inside = samples.filter(({ t }) => t >= from);
  const step = Math.max(1, Math.ceil(inside.length / points));
  return inside.filter((_, i) => (inside.length - 1 - i) % step === 0);
}

/** What a count has grown by a second, between each sample and the one before; null where one of
 * them is missing, or the server was started anew between them. */
export function rates(samples, countOf) {
  return samples.map((sample, i) => {
    const before = samples[i - 1];
    if (!before?.up || !sample.up) return null;
    const grown = countOf(sample) - countOf(before);
    const seconds = (sample.t - before.t) / 1000;
    return grown >= 0 && seconds > 0 ? grown / seconds : null;
  });
}

/** A value of each sample; null where the server was away or does not know it. */
export function values(samples, valueOf) {
  return samples.map((sample) => (sample.up ? (valueOf(sample) ?? null) : null));
}

/** How much a count has grown over all samples, also over starts of the server. */
export function growth(samples, countOf) {
  const known = samples.filter(({ up }) => up).map(countOf);
  return known.reduce((sum, count, i) => {
    if (i === 0) return 0;
    return sum + (count >= known[i - 1] ? count - known[i - 1] : count);
  }, 0);
}

/** The times, in seconds, at which the engine was started again. */
export function restarts(samples) {
  const known = samples.filter(({ up }) => up);
  return known
    .filter((sample, i) => i > 0 && sample.restarts > known[i - 1].restarts)
    .map(({ t }) => t / 1000);
}

/** `[begin, end]` in seconds of each while in which the server did not answer. */
export function gaps(samples) {
  const found = [];
  for (const [i, { t, up }] of samples.entries()) {
    if (up) continue;
    const begin = (samples[i - 1]?.t ?? t) / 1000;
    const end = (samples[i + 1]?.t ?? t) / 1000;
    const last = found.at(-1);
    if (last && last[1] >= begin) last[1] = end;
    else found.push([begin, end]);
  }
  return found;
}

/** How many times were in each bucket: of `bounds` (seconds) and beyond the last of them. */
export function histogram(samples, bounds) {
  const upTo = (i) => growth(samples, ({ first_token: { buckets, count } }) => buckets[i] ?? count);
  const cumulated = [...bounds.keys(), bounds.length].map(upTo);
  return cumulated.map((count, i) => Math.max(0, count - (cumulated[i - 1] ?? 0)));
}

/** The time below which a share of a histogram's times is, as a bucket tells it: evenly spread in
 * it; null without any, Infinity beyond the last bound. */
export function quantile(counts, bounds, share) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all === 0) return null;
  let below = 0;
  for (const [i, count] of counts.entries()) {
    if (below + count >= share * all && count > 0) {
      if (i === bounds.length) return Infinity;
      const begin = i === 0 ? 0 : bounds[i - 1];
      return begin + ((share * all - below) / count) * (bounds[i] - begin);
    }
    below += count;
  }
  return Infinity;
}

/** The buckets that are worth showing: from the first to the last with something, and one around. */
export function shownBuckets(counts) {
  const first = counts.findIndex((count) => count > 0);
  if (first === -1) return [0, 0];
  const last = counts.length - 1 - [...counts].reverse().findIndex((count) => count > 0);
  return [Math.max(0, first - 1), Math.min(counts.length, last + 2)];
}
