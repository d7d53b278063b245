// Answers that are followed over lost connections, stopped, and kept.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Answers } from "../public/chat/answers.js";
import { StoreError } from "../public/data/store.js";
import { newAnswer } from "../public/chat/reading.js";
import { ServerError } from "../public/shared/api.js";

const PIECES = ["one ", "two ", "three ", "four "];
const TEXT = PIECES.join("");

/** The whole stream of a response, as the server has it. */
function stream(status = "completed") {
  const response = (status) => ({ id: "resp_1", status, model: "m", sheily: {}, output: [] });
  const events = [
    { type: "response.created", response: response("queued") },
    { type: "response.queued", response: response("queued") },
    { type: "response.in_progress", response: response("in_progress") },
    ...PIECES.map((delta) => ({ type: "response.output_text.delta", delta })),
    { type: status === "completed" ? "response.completed" : "response.incomplete" },
  ];
  const output = [{ content: [{ text: TEXT }] }];
  Object.assign(events.at(-1), { response: { ...response(status), output } });
  return events.map((event, i) => ({ ...event, sequence_number: i }));
}

function error(code, status = null) {
  return new ServerError({ message: code, code }, status);
}

/**
 * An API whose streams end as `cuts` say: each is how many events come before the connection
 * breaks (null: all of them), or an error that the call is refused with.
 */
function scripted(cuts, events = stream()) {
  const calls = [];
  return {
    calls,
    async *events(path, { body, signal }) {
      const cut = cuts.shift();
      calls.push(body ? `POST ${body.key}` : `GET ${path}`);
      if (cut instanceof Error) throw cut;
      const after = Number(/after=(\d+)/.exec(path)?.[1] ?? -1);
      const left = events.filter((event) => event.sequence_number > after);
      for (const event of cut === null ? left : left.slice(0, cut)) {
        if (signal.aborted) throw new DOMException("", "AbortError");
        yield event;
      }
      if (cut !== null) throw error("stream_interrupted");
    },
    async call(path, { method }) {
      calls.push(`${method} ${path}`);
      return null;
    },
  };
}

async function run(api, fields = {}, options = {}) {
  const kept = [];
  const seen = [];
  const answers = new Answers({
    api,
    store: {
      write: async ({ messages }) => kept.push(...messages),
      message: async () => options.keptElsewhere,
    },
    onChange: (answer) => seen.push(answer),
    sleep: async () => {},
    ...options,
  });
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 0 };
  const answer = { ...newAnswer(fixed), ...fields };
  const begun = options.request === undefined ? { input: [] } : options.request;
  await answers.run(answer, begun);
  return { kept, seen, last: kept.at(-1) };
}

test("an answer comes, is kept, and the server forgets it", async () => {
  const api = scripted([null]);
  const { last } = await run(api);
  assert.deepEqual([last.text, last.outcome], [TEXT, "done"]);
  assert.deepEqual(api.calls, ["POST k", "DELETE api/responses/resp_1"]);
  assert.equal(last.response, null);
});

test("cut anywhere, any number of times: no text twice, none lost", async () => {
  for (let first = 0; first <= 8; first += 1) {
    for (let second = 0; second <= 8; second += 1) {
      const { seen, last } = await run(scripted([first, second, 0, null]));
      assert.equal(last.text, TEXT, `cut behind ${first} and ${second}`);
      assert.equal(last.outcome, "done");
      for (const { text } of seen) assert.ok(TEXT.startsWith(text));
    }
  }
});

test("what was kept when the page was closed goes on behind its last event", async () => {
  for (const { sequence_number: sequence } of stream().slice(0, -1)) {
    const text = PIECES.slice(0, Math.max(0, sequence - 2)).join("");
    const api = scripted([null]);
    const { last } = await run(api, { response: "resp_1", sequence, text }, { request: null });
    assert.equal(last.text, TEXT);
    assert.equal(api.calls[0], `GET api/responses/resp_1/events?after=${sequence}`);
  }
});

test("a question of which nobody knows whether it arrived is sent again under its key", async () => {
  const api = scripted([error("dashboard_unreachable"), error("dashboard_unreachable"), null]);
  const { last, seen } = await run(api);
  assert.equal(last.text, TEXT);
  assert.deepEqual(api.calls.slice(0, 3), ["POST k", "POST k", "POST k"]);
  assert.ok(seen.some((answer) => answer.lost));
  assert.equal(last.lost, false);
});

test("also where the line behind the backend broke", async () => {
  const api = scripted([error("stream_interrupted", 502), error("upstream_timeout", 504), null]);
  const { last } = await run(api);
  assert.equal(last.text, TEXT);
  assert.deepEqual(api.calls.slice(0, 3), ["POST k", "POST k", "POST k"]);
});

test("but not for ever, and it keeps its key for the next try", async () => {
  const { last } = await run(scripted(Array(50).fill(error("dashboard_unreachable"))));
  assert.equal(last.outcome, "error");
  assert.equal(last.error.code, "dashboard_unreachable");
  assert.equal(last.key, "k");
});

test("a refusal is an error at once", async () => {
  for (const [code, status] of [
    ["queue_full", 429],
    ["context_length_exceeded", 400],
    ["server_unreachable", 502],
    ["model_unavailable", 500],
  ]) {
    const api = scripted([error(code, status)]);
    const { last } = await run(api);
    assert.deepEqual([last.outcome, last.error.code], ["error", code]);
    assert.deepEqual(api.calls, ["POST k"]);
  }
});

test("a model that is being loaded is waited for", async () => {
  const { last, seen } = await run(scripted([error("loading", 503), error("restarting", 503), null]));
  assert.equal(last.outcome, "done");
  const waits = [...new Set(seen.map((answer) => answer.waitsFor))];
  assert.deepEqual(waits, [null, "loading", "restarting"]);
});

test("an answer that the server has lost says so, with the text that came", async () => {
  const api = scripted([5, error("not_found", 404)]);
  const { last } = await run(api);
  assert.deepEqual([last.outcome, last.error.code], ["error", "answer_lost"]);
  assert.equal(last.text, "one two ");
  assert.equal(api.calls[1], "GET api/responses/resp_1/events?after=4");
});

test("an answer that another tab has had to its end is taken from there", async () => {
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 0 };
  const keptElsewhere = { ...newAnswer(fixed), text: TEXT, outcome: "done", sequence: 7 };
  const api = scripted([5, error("not_found", 404)]);
  const { last } = await run(api, {}, { keptElsewhere });
  assert.deepEqual([last.text, last.outcome, last.error], [TEXT, "done", null]);
});

test("an answer that cannot be kept comes to its end, and stays with the server", async () => {
  const api = scripted([null]);
  let last = null;
  const troubles = [];
  const answers = new Answers({
    api,
    store: {
      write: async () => {
        throw new StoreError("storage_full");
      },
    },
    onChange: (answer) => (last = answer),
    onTrouble: ({ code }) => troubles.push(code),
  });
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 0 };
  await answers.run(newAnswer(fixed), {});
  assert.deepEqual([last.text, last.outcome, last.error], [TEXT, "done", null]);
  assert.ok(troubles.length > 0 && troubles.every((code) => code === "storage_full"));
  assert.deepEqual(api.calls, ["POST k"]);
});

test("stopping has the server stop, and keeps what it says was written", async () => {
  const events = stream("cancelled");
  const api = scripted([null], events);
  let stopped = null;
  const answers = new Answers({
    api,
    store: { write: async () => {} },
    onChange: (answer) => {
      if (answer.pieces === 1) stopped ??= answers.stop("a");
      last = answer;
    },
  });
  let last = null;
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 0 };
  await answers.run(newAnswer(fixed), {});
  await stopped;
  assert.equal(last.outcome, "stopped");
  assert.equal(last.text, TEXT);
  assert.ok(api.calls.includes("POST api/responses/resp_1/cancel"));
});

test("what is stopped before it has an id is cancelled once it has one", async () => {
  const api = scripted([null], stream("cancelled"));
  const answers = new Answers({
    api,
    store: { write: async () => {} },
    onChange: (answer) => {
      if (answer.response === null && answer.sequence === -1) answers.stop("a");
      last = answer;
    },
  });
  let last = null;
  const fixed = { id: "a", key: "k", conversation: "c", parent: "q", options: {}, now: 0 };
  await answers.run(newAnswer(fixed), {});
  assert.equal(last.outcome, "stopped");
  assert.ok(api.calls.includes("POST api/responses/resp_1/cancel"));
});

test("text and place in the stream are kept together", async () => {
  let now = 0;
  const { kept } = await run(scripted([null]), {}, { now: () => (now += 1_000) });
  assert.ok(kept.length > 4);
  for (const { text, sequence } of kept.slice(0, -1)) {
    assert.equal(text, PIECES.slice(0, Math.max(0, sequence - 2)).join(""));
  }
});
