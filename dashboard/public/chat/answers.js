// Answers that are being made: asked for, followed, found again after a lost connection, stopped,
// kept. Knows the backend's routes and the store; nothing of the page.

import { StoreError } from "../data/store.js";
import { ServerError } from "../shared/api.js";
import { broken, isRunning, mayHaveBegun, take, takeWhole } from "./reading.js";

const KEEP_MS = 400; // how often a growing answer is written to the store
const RETRY_MS = [250, 500, 1_000, 2_000, 4_000];
const STOP_MS = 5_000; // how long a stopped answer has to end by its stream
const BEGIN_TRIES = 8; // of a question of which nobody knows whether it arrived

/** What ends a stream though the response may go on. */
const LOST = new Set([
  "dashboard_unreachable",
  "server_unreachable",
  "stream_interrupted",
  "upstream_timeout",
  "bad_response",
  "bad_upstream_response",
]);
/** The model is not there yet; nothing was begun. */
const NOT_YET = new Set(["loading", "restarting"]);

export class Answers {
  /**
   * `api` has `events(path, options)` and `call(path, options)`; `store` has `write`;
   * `onChange(answer)` is called with each new state of an answer, `onTrouble(error)` where it
   * cannot be kept: it goes on all the same.
   */
  constructor({ api, store, onChange, onTrouble = () => {}, now = Date.now, sleep = sleepFor }) {
    this._api = api;
    this._store = store;
    this._onChange = onChange;
    this._onTrouble = onTrouble;
    this._now = now;
    this._sleep = sleep;
    this._running = new Map();
  }

  has(id) {
    return this._running.has(id);
  }

  get(id) {
    return this._running.get(id)?.answer;
  }

  /**
   * Has `answer` made and follows it to its end. `request` is what /v1/responses takes; without
   * one, the answer has been begun before and is found again by its response.
   */
  async run(answer, request = null) {
    if (this._running.has(answer.id)) return;
    const controller = new AbortController();
    const run = { answer, request, controller, stopping: false, kept: 0 };
    this._running.set(answer.id, run);
    this._set(run, { ...answer, lost: false, stopping: false, waitsFor: null });
    try {
      await this._follow(run);
    } catch (error) {
      const kept = await this._endedElsewhere(run, error);
      if (kept) this._set(run, kept);
      else if (controller.signal.aborted) this._set(run, broken(run.answer, "stopped"));
      else if (error instanceof ServerError) {
        this._set(run, broken(run.answer, "error", error.plain()));
      } else {
        this._set(run, broken(run.answer, "error", { message: String(error), code: null }));
        throw error;
      }
    } finally {
      this._running.delete(answer.id);
      await this._finish(run);
    }
  }

  /** Has the server stop; what was written is kept. */
  async stop(id) {
    const run = this._running.get(id);
    if (!run || run.stopping) return;
    run.stopping = true;
    const { answer } = run;
    this._set(run, { ...answer, stopping: true });
    if (answer.lost || answer.waitsFor) {
      run.controller.abort();
      if (answer.response !== null) await this._cancel(answer.response);
      return;
    }
    // The last event of the response has all that was written; it comes by the stream. A response
    // without an id yet is cancelled once it has one, or else it would be made for nobody.
    run.patience = setTimeout(() => run.controller.abort(), STOP_MS);
    if (answer.response !== null) await this._cancelRun(run);
  }

  async _cancelRun(run) {
    if (run.cancelled) return;
    run.cancelled = true;
    if (!(await this._cancel(run.answer.response))) run.controller.abort();
  }

  async _cancel(response) {
    try {
      await this._api.call(`api/responses/${response}/cancel`, { method: "POST" });
      return true;
    } catch (error) {
      if (error instanceof ServerError) return false;
      throw error;
    }
  }

  /** The answer as another tab has kept it, which had the server forget it; null for none. */
  async _endedElsewhere({ answer }, error) {
    if (error.code !== "answer_lost") return null;
    const kept = await this._store.message(answer.id);
    return kept?.asked === answer.asked && !isRunning(kept) ? kept : null;
  }

  async _follow(run) {
    let tries = 0;
    while (isRunning(run.answer)) {
      const before = run.answer.sequence;
      try {
        for await (const event of this._events(run)) {
          const next = take(run.answer, event, this._now());
          this._set(run, { ...next, lost: false, waitsFor: null });
          if (run.stopping && next.response !== null) await this._cancelRun(run);
          if (next.streamTooLong) await this._whole(run);
          await this._keep(run);
        }
      } catch (error) {
        if (!(error instanceof ServerError) || run.controller.signal.aborted) throw error;
        if (run.answer.sequence > before) tries = 0;
        if (!this._mayGoOn(run, error, tries)) throw this._final(run, error);
        const absent = NOT_YET.has(error.code);
        this._set(run, { ...run.answer, lost: !absent, waitsFor: absent ? error.code : null });
        if (run.stopping) run.controller.abort();
        await this._pause(run, error, tries);
        tries += 1;
      }
    }
  }

  _events(run) {
    const { answer, request, controller } = run;
    const { signal } = controller;
    if (answer.response === null) {
      return this._api.events("api/responses", { body: { key: answer.key, request }, signal });
    }
    const after = answer.sequence >= 0 ? `?after=${answer.sequence}` : "";
    return this._api.events(`api/responses/${answer.response}/events${after}`, { signal });
  }

  _mayGoOn({ answer, request }, { code, status }, tries) {
    if (NOT_YET.has(code)) return answer.response !== null || request !== null;
    if (code === "queue_full" && answer.response !== null) return true; // too many readers come back
    if (!LOST.has(code)) return false;
    if (answer.response !== null) return true;
    if (request === null) return false;
    return mayHaveBegun({ code, status }) && tries < BEGIN_TRIES;
  }

  /** The error to show: that a response is not known any more has a reason that helps. */
  _final({ answer }, error) {
    if (error.status !== 404 || answer.response === null) return error;
    const message = "The server no longer has this answer: it was restarted without keeping it.";
    return new ServerError({ message, code: "answer_lost" }, 404);
  }

  /** Follows a response whose stream has ended before it. */
  async _whole(run) {
    for (;;) {
      const path = `api/responses/${run.answer.response}`;
      const response = await this._api.call(path, { signal: run.controller.signal });
      this._set(run, takeWhole(run.answer, response));
      if (!isRunning(run.answer)) return;
      await this._sleep(1_000, run.controller.signal);
    }
  }

  _pause({ controller }, error, tries) {
    const wanted = error.retryAfter ? 1_000 * error.retryAfter : 0;
    const ms = Math.max(Math.min(wanted, 5_000), RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
    return this._sleep(ms, controller.signal);
  }

  _set(run, answer) {
    run.answer = answer;
    this._onChange(answer);
  }

  /** Text and sequence number are written together: who comes back goes on behind both. */
  async _keep(run) {
    const began = run.answer.response !== null && !run.keptResponse;
    const now = this._now();
    if (!began && now - run.kept < KEEP_MS) return;
    run.kept = now;
    run.keptResponse = run.answer.response !== null;
    await this._write(run.answer);
  }

  /** Whether the store has it now. */
  async _write(answer) {
    try {
      await this._store.write({ messages: [answer] });
      return true;
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      this._onTrouble(error);
      return false;
    }
  }

  /** Once the answer is kept here, the server need not have it any longer. */
  async _finish(run) {
    clearTimeout(run.patience);
    if (await this._write(run.answer)) await this.forget(run.answer);
  }

  /** Has the server erase the response of an answer that has ended and is kept. */
  async forget(answer) {
    if (answer.response === null) return;
    try {
      await this._api.call(`api/responses/${answer.response}`, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (error.status !== 404) return; // the next time, or by its age
    }
    const forgotten = { ...answer, response: null };
    await this._write(forgotten);
    this._onChange(forgotten);
  }
}

function sleepFor(ms, signal) {
  return new Promise((resolve, reject) => {
    const gone = () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", gone);
      resolve();
    }, ms);
    if (signal.aborted) gone();
    signal.addEventListener("abort", gone, { once: true });
  });
}
