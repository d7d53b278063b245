// What the events of a response make of an answer.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  broken,
  contextOf,
  firstAfter,
  isRunning,
  newAnswer,
  speedOf,
  take,
  takeWhole,
  tokensOf,
} from "../public/chat/reading.js";

function blank(fields = {}) {
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 1000 };
  return newAnswer({ ...fixed, ...fields });
}

function response(status, fields = {}) {
  return { id: "resp_1", status, model: "m", sheily: {}, output: [], ...fields };
}

function message(text) {
  return [{ type: "message", content: [{ type: "output_text", text }] }];
}

function delta(sequence_number, text) {
  return { type: "response.output_text.delta", sequence_number, delta: text };
}

function taken(answer, events) {
  return events.reduce((next, event, i) => take(next, event, 2000 + 100 * i), answer);
}

test("an answer is what its events say", () => {
  const begun = taken(blank(), [
    { type: "response.created", sequence_number: 0, response: response("queued") },
    {
      type: "response.in_progress",
      sequence_number: 2,
      response: response("in_progress", { sheily: { dropped_messages: 3 } }),
    },
    {
      type: "response.prompt_progress",
      sequence_number: 3,
      queue_place: null,
      total: 40,
      cache: 10,
      processed: 20,
    },
  ]);
  assert.equal(begun.response, "resp_1");
  assert.equal(begun.dropped, 3);
  assert.deepEqual(begun.progress, { place: null, total: 40, cached: 10, processed: 20 });
  assert.equal(contextOf(begun), 40);
  assert.ok(isRunning(begun));

  const written = taken(begun, [delta(4, "Hel"), delta(5, "lo")]);
  assert.equal(written.text, "Hello");
  assert.equal(written.outcome, "streaming");
  assert.equal(tokensOf(written), 2);
  assert.equal(speedOf(written), 10);
  assert.equal(firstAfter(written), 1);
  assert.equal(contextOf(written), 42);

  const usage = { output_tokens: 2, total_tokens: 42 };
  const ended = take(written, {
    type: "response.completed",
    sequence_number: 6,
    response: response("completed", {
      output: message("Hello"),
      usage,
      timings: { predicted_per_second: 33 },
    }),
  });
  assert.equal(ended.outcome, "done");
  assert.equal(ended.text, "Hello");
  assert.equal(speedOf(ended), 33);
  assert.equal(contextOf(ended), 42);
  assert.equal(ended.progress, null);
});

test("an event that came before changes nothing", () => {
  const once = taken(blank(), [delta(4, "one ")]);
  assert.equal(take(once, delta(4, "one "), 0), once);
  assert.equal(take(once, delta(3, "zero"), 0), once);
  assert.equal(take(once, delta(5, "two"), 0).text, "one two");
});

test("what the whole response says at last is the truth", () => {
  const half = taken(blank({ base: "before " }), [delta(4, "ha")]);
  assert.equal(half.text, "before ha");
  const ended = takeWhole(half, response("completed", { output: message("half") }));
  assert.equal(ended.text, "before half");
  assert.equal(takeWhole(half, response("in_progress")).outcome, "streaming");
});

test("each way to end", () => {
  const half = taken(blank(), [delta(4, "half")]);
  const ended = (status, fields) =>
    take(half, {
      type: "response.incomplete",
      sequence_number: 9,
      response: response(status, { output: message("half"), ...fields }),
    });
  assert.equal(ended("cancelled").outcome, "stopped");
  const cut = ended("incomplete", { sheily: { timed_out: true } });
  assert.deepEqual([cut.outcome, cut.finish, cut.timedOut], ["done", "length", true]);
  const failed = take(half, {
    type: "response.failed",
    sequence_number: 9,
    response: response("failed", {
      error: { code: "server_error", message: "Gone." },
      sheily: { error_code: "engine_crashed" },
    }),
  });
  assert.equal(failed.outcome, "error");
  assert.deepEqual(failed.error, { message: "Gone.", code: "engine_crashed", status: null });
  assert.equal(failed.text, "half");
});

test("only what may have been begun keeps its key", () => {
  assert.equal(broken(blank(), "error", { status: null }).key, "k");
  assert.equal(broken(blank(), "error", { status: 429 }).key, null);
  assert.equal(broken(blank(), "stopped").key, null);
});
