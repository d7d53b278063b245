// The samples of the last hour, asked for while somebody looks; knows nothing of what is drawn.

import { call } from "../shared/api.js";
import { withUnseen } from "./figures.js";

const KEPT_MS = 60 * 60 * 1000;
const POLL_MS = 2_000;
const PATIENCE_MS = 10_000; // a machine that slept may hold a call that nobody answers

export class Samples {
  constructor(onChange) {
    this.samples = [];
    this.bounds = [];
    this.clock = 0; // of the backend
    this.failure = null;
    this._taken = [];
    this._onChange = onChange;
    this._timer = null;
    this._asking = false;
  }

  /** Goes on until the page is left; while it is hidden, nothing is asked. */
  follow() {
    document.addEventListener("visibilitychange", () => this._ask());
    this._ask();
  }

  async _ask() {
    clearTimeout(this._timer);
    if (this._asking || document.hidden) return;
    this._asking = true;
    const newest = this._taken.at(-1)?.t;
    const path = newest === undefined ? "api/metrics" : `api/metrics?after=${newest}`;
    try {
      this._take(await call(path, { signal: AbortSignal.timeout(PATIENCE_MS) }));
      this.failure = null;
    } catch (error) {
      this.failure = error;
    }
    this._asking = false;
    this._timer = setTimeout(() => this._ask(), POLL_MS);
    this._onChange();
  }

  _take({ now, interval_s: intervalS, first_token_le: bounds, samples }) {
    this.clock = now;
    if (bounds.length > 0) this.bounds = bounds;
    // A backend that was started again has only what it saw since: what is here stays.
    this._taken = [...this._taken, ...samples].filter(({ t }) => t >= now - KEPT_MS);
    this.samples = withUnseen(this._taken, intervalS);
  }
}
