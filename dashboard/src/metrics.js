// What the LLM server did in the last hour, for the page's charts: samples of its /metrics.
//
// GET /api/metrics?after=T, where T is the `t` of the last sample that the page has:
//
//   {
//     "interval_s": 2,
//     "now": 1795808510000,              this machine's clock, in ms since 1970, as every time here
//     "first_token_le": [0.01, …, 300],  the upper bounds, in s, of the buckets of `first_token`
//     "samples": [ … ]                   the oldest first; without `after`, of the whole last hour
//   }
//
// A sample of a server that did not answer is {"t", "up": false}. Any other one has:
//
//   "t", "up": true
//   "state"        "loading", "ready", "sleeping", "waking", "restarting", "draining" or "failed"
//   "version", "fingerprint"   of the server, and of its model and settings ("" until loaded)
// Counts that grow while the server process lives, and begin at 0 when it starts again: where one
// is less than in the sample before, the server was started anew.
//   "tokens"       tokens as they come; tokens drafted ahead of the model come several at once,
//                  and count as one here
//   "generated", "prompt", "cached", "disk"   tokens of the answers that have ended: made, read, of
//                  those read the ones that the cache had, and of these the ones from its disk tier
//   "drafted", "accepted"   tokens drafted ahead, and those of them that the model took
//   "requests"     {"ok": 3, "invalid": 1, …}: requests for answers that have ended, by outcome;
//                  one for an answer in the background has ended as soon as that was accepted
//   "restarts"     of the engine
//   "first_token"  {"count", "sum_s", "buckets"}: times to the first token. `buckets` are as many
//                  numbers as `first_token_le`, each counting the times up to its bound
// What is now; null where the server does not know it:
//   "running", "queued"             requests with a slot, and waiting for one
//   "background"                    responses that are made in the background
//   "cells", "cells_used", "cells_cached"   places for tokens in the KV cache: all, those of
//                                   running requests, those that only keep a prefix

import { Problem } from "./problem.js";
import { parseMetrics } from "./prometheus.js";
import { fetchText } from "./upstream.js";

const INTERVAL_MS = 2000;
const KEPT_MS = 60 * 60 * 1000;
const ANSWERS = new Set([
  "/chat",
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/messages",
  "/v1/responses",
]);

/** Reads the LLM server's metrics every INTERVAL_MS, from `start` to `stop`. */
export class Sampler {
  constructor(llm, now = () => Date.now()) {
    this.llm = llm;
    this.now = now;
    this.samples = [];
    this.bounds = [];
    this.timer = undefined;
    this.sampling = false;
  }

  start() {
    this.timer = setInterval(() => this.sample(), INTERVAL_MS).unref();
    this.sample();
  }

  stop() {
    clearInterval(this.timer);
  }

  /** Takes one sample; none while the one before is waited for. */
  async sample() {
    if (this.sampling) return;
    this.sampling = true;
    const t = this.now();
    let found = { t, up: false };
    try {
      const { status, text } = await fetchText(this.llm, INTERVAL_MS, "metrics");
      if (status === 200) found = { t, up: true, ...this.read(text) };
    } catch (error) {
      // The page sees that the server is away; the log would fill.
      if (!(error instanceof Problem || error instanceof SyntaxError)) throw error;
    } finally {
      this.sampling = false;
    }
    this.samples.push(found);
    while (this.samples[0].t < t - KEPT_MS) this.samples.shift();
  }

  read(text) {
    const series = parseMetrics(text);
    const times = histogram(series, "sheily_first_token_seconds");
    if (times.bounds.length > 0) this.bounds = times.bounds;
    return sampleOf(series, times);
  }

  /** The body of GET /api/metrics, with the samples behind the time `after`. */
  since(after) {
    return {
      interval_s: INTERVAL_MS / 1000,
      now: this.now(),
      first_token_le: this.bounds,
      samples: this.samples.filter(({ t }) => t > after),
    };
  }
}

function sampleOf(series, times) {
  const gauge = (name) => series.get(`sheily_${name}`)?.[0].value ?? null;
  const count = (name) => gauge(`${name}_total`) ?? 0;
  const build = series.get("sheily_build_info")?.[0].labels;
  return {
    state: series.get("sheily_engine_state")?.find(({ value }) => value === 1)?.labels.get("state"),
    version: build?.get("version"),
    fingerprint: build?.get("fingerprint"),
    tokens: times.count + (gauge("token_gap_seconds_count") ?? 0),
    generated: count("generated_tokens"),
    prompt: count("prompt_tokens"),
    cached: count("cached_tokens"),
    disk: count("disk_cached_tokens"),
    drafted: count("drafted_tokens"),
    accepted: count("accepted_tokens"),
    requests: outcomes(series.get("sheily_requests_total") ?? []),
    restarts: count("engine_restarts"),
    first_token: { count: times.count, sum_s: times.sum, buckets: times.buckets },
    running: gauge("requests_running"),
    queued: gauge("requests_queued"),
    background: gauge("background_running"),
    cells: gauge("kv_cells"),
    cells_used: gauge("kv_cells_used"),
    cells_cached: gauge("kv_cells_cached"),
  };
}

function outcomes(requests) {
  const found = {};
  for (const { labels, value } of requests) {
    if (!ANSWERS.has(labels.get("route"))) continue;
    const outcome = labels.get("outcome");
    found[outcome] = (found[outcome] ?? 0) + value;
  }
  return found;
}

/** A histogram without its last bucket, which has no bound and is `count`. */
function histogram(series, name) {
  const bounded = (series.get(`${name}_bucket`) ?? [])
    .map(({ labels, value }) => ({ bound: Number(labels.get("le")), value }))
    .filter(({ bound }) => Number.isFinite(bound)); // "+Inf" is no number here
  return {
    bounds: bounded.map(({ bound }) => bound),
    buckets: bounded.map(({ value }) => value),
    count: series.get(`${name}_count`)?.[0].value ?? 0,
    sum: series.get(`${name}_sum`)?.[0].value ?? 0,
  };
}
