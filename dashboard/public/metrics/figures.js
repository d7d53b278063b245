// What samples say over time: rates, growth, peaks, and whiles without a server. Pure; knows the
// samples as src/metrics.js of the backend gives them.

const GAUGES = ["running", "queued", "background", "cells_used", "cells_cached"];
// One that fell tells that the server was started again, for all of them.
const COUNTS = [
  ({ tokens }) => tokens,
  ({ prompt }) => prompt,
  ({ restarts }) => restarts,
  (sample) => sample.first_token.count,
  (sample) => requestsOf(sample),
];
const MISSED = 3; // samples, after which nobody has looked

/** All requests that have ended, or those with some outcomes. */
export function requestsOf({ requests }, outcomes = Object.keys(requests)) {
  return outcomes.reduce((sum, name) => sum + (requests[name] ?? 0), 0);
}

/** The samples, with one that is `unseen` in each while in which the backend took none. */
export function withUnseen(samples, intervalS) {
  return samples.flatMap((sample, i) => {
    const before = samples[i - 1];
    const missed = before && sample.t - before.t > MISSED * 1000 * intervalS;
    return missed
      ? [{ t: before.t + 1000 * intervalS, up: false, unseen: true }, sample]
      : [sample];
  });
}

/** One sample for each cell of `seconds` on the clock: the cells stay where they are while time goes
 * on, so that the picture is still. Counts are the last of the cell, all others the most in it. */
export function thin(samples, seconds) {
  const found = [];
  let cell = null;
  for (const sample of samples) {
    const here = Math.floor(sample.t / (1000 * seconds));
    const last = found.at(-1);
    const same = here === cell && last.up === sample.up && last.unseen === sample.unseen;
    if (same) found[found.length - 1] = sample.up ? peaked(last, sample) : sample;
    else found.push(sample);
    cell = here;
  }
  return found;
}

function peaked(before, sample) {
  const peaks = GAUGES.map((name) => [name, most([before[name], sample[name]])]);
  return { ...sample, ...Object.fromEntries(peaks) };
}

/** What counts have grown by a second, between each sample and the one before; null where one of
 * them is missing. */
export function rates(samples, countOf) {
  return samples.map((sample, i) => {
    const before = samples[i - 1];
    if (!before?.up || !sample.up || sample.t <= before.t) return null;
    return (1000 * grown(before, sample, countOf)) / (sample.t - before.t);
  });
}

/** A value of each sample; null where the server was away or does not know it. */
export function values(samples, valueOf) {
  return samples.map((sample) => (sample.up ? (valueOf(sample) ?? null) : null));
}

/** How much a count has grown over all samples, also over starts of the server. */
export function growth(samples, countOf) {
  return steps(samples).reduce((sum, [before, after]) => sum + grown(before, after, countOf), 0);
}

/** How much counts have grown in each cell of `seconds` on the clock: `x` is the middle of each, in
 * seconds, and `values` has a list for each count; null where nothing is known. */
export function bins(samples, seconds, countsOf) {
  const cellOf = ({ t }) => Math.floor(t / (1000 * seconds));
  const pairs = steps(samples);
  if (pairs.length === 0) return { x: [], values: countsOf.map(() => []) };
  const first = cellOf(pairs[0][1]);
  const n = cellOf(pairs.at(-1)[1]) - first + 1;
  const values = countsOf.map(() => new Array(n).fill(null));
  for (const [before, after] of pairs) {
    const i = cellOf(after) - first;
    for (const [k, countOf] of countsOf.entries()) {
      values[k][i] = (values[k][i] ?? 0) + grown(before, after, countOf);
    }
  }
  return { x: Array.from({ length: n }, (_, i) => (first + i + 0.5) * seconds), values };
}

/** The times, in seconds, at which the engine was started again. */
export function restarts(samples) {
  return steps(samples)
    .filter(([before, after]) => grown(before, after, (sample) => sample.restarts) > 0)
    .map(([, { t }]) => t / 1000);
}

/** `[begin, end]` in seconds of each while, from `from` on, in which the server did not answer; or,
 * with `unseen`, in which nobody asked it. The last may go on until `to`. */
export function gaps(samples, { from = 0, to = Infinity, unseen = false } = {}) {
  const found = [];
  for (const [i, sample] of samples.entries()) {
    if (sample.up || Boolean(sample.unseen) !== unseen) continue;
    const begin = Math.max(from, (samples[i - 1] ?? sample).t / 1000);
    const next = samples[i + 1]?.t / 1000 || (to === Infinity ? sample.t / 1000 : to);
    const last = found.at(-1);
    if (next <= begin) continue;
    if (last && last[1] >= begin) last[1] = next;
    else found.push([begin, next]);
  }
  return found;
}

/** The known samples, each with the one known before it. */
export function steps(samples) {
  const known = samples.filter(({ up }) => up);
  return known.slice(1).map((sample, i) => [known[i], sample]);
}

/** The most of what is known of values; null where nothing is. */
export function most(values) {
  const known = values.filter((each) => each !== null && each !== undefined);
  return known.length > 0 ? known.reduce((a, b) => Math.max(a, b)) : null;
}

/** The least of what is known of values; null where nothing is. */
export function least(values) {
  const known = values.filter((each) => each !== null && each !== undefined);
  return known.length > 0 ? known.reduce((a, b) => Math.min(a, b)) : null;
}

/** A server that was started again counts from 0: all it has counted is new. */
export function grown(before, after, countOf) {
  const anew = COUNTS.some((each) => each(after) < each(before));
  return Math.max(0, countOf(after) - (anew ? 0 : countOf(before)));
}
