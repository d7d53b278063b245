// The parts of the page that need no browser: events, figures, messages, words.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { messagesOf, Turn, wayOut } from "../public/conversation.js";
import { eventData } from "../public/sse.js";
import { errorText, number, TEXTS } from "../public/texts.js";

async function dataOf(text, size) {
  async function* chunks() {
    const bytes = Buffer.from(text);
    for (let i = 0; i < bytes.length; i += size) yield bytes.subarray(i, i + size);
  }
  const found = [];
  for await (const data of eventData(chunks())) found.push(data);
  return found;
}

test("events are the same however their bytes are cut", async () => {
  const text =
    'data: {"a": "ñ 你 😀"}\n\n: keep-alive\n\ndata:two\r\n\r\nevent: x\ndata: a\ndata: b\n\ndata: half';
  for (let size = 1; size < 80; size++) {
    assert.deepEqual(await dataOf(text, size), ['{"a": "ñ 你 😀"}', "two", "a\nb"]);
  }
});

function turnAt(times) {
  return new Turn("why?", () => times.shift());
}

const piece = (content, more = {}) => ({ choices: [{ delta: { content } }], ...more });

test("the speed is measured until the server says it", () => {
  const turn = turnAt([0, 500, 600, 700]);
  assert.equal(turn.outcome, "waiting");
  turn.take(piece("", { sheily: { dropped_messages: 4 } }));
  assert.equal(turn.outcome, "waiting");
  turn.take(piece("one"));
  assert.equal(turn.outcome, "streaming");
  assert.equal(turn.speed, null);
  turn.take(piece(" two"));
  turn.take(piece(" three"));
  assert.equal(turn.speed, 10);
  assert.equal(turn.firstAfter, 0.5);
  assert.equal(turn.tokens, 3);
  const timings = { predicted_per_second: 12.5 };
  turn.take({ choices: [{ delta: {}, finish_reason: "length" }], timings, sheily: {} });
  turn.take({ choices: [], usage: { completion_tokens: 5 } });
  assert.equal(turn.speed, 12.5);
  assert.equal(turn.tokens, 5);
  assert.equal(turn.finishReason, "length");
  assert.equal(turn.dropped, 4);
  assert.equal(turn.text, "one two three");
});

test("a stopped answer keeps the counts that there are", () => {
  const turn = turnAt([0, 1, 2]);
  assert.equal(turn.usage, null);
  turn.take({ choices: [], prompt_progress: { total: 40, cache: 30, processed: 40, time_ms: 1 } });
  turn.take(piece("one"));
  turn.take(piece(" two"));
  turn.end("stopped");
  assert.deepEqual(turn.usage, {
    prompt_tokens: 40,
    prompt_tokens_details: { cached_tokens: 30 },
    total_tokens: 42,
  });
});

test("an answer that is asked for again begins empty", () => {
  const turn = turnAt([0, 1, 2]);
  turn.take(piece("half"));
  turn.end("error", new Error("gone"));
  turn.begin();
  assert.deepEqual([turn.text, turn.outcome, turn.error, turn.tokens], ["", "waiting", null, 0]);
});

test("what is sent is the questions, the answers there are, and the last question", () => {
  const turns = ["a", "b", "c"].map((question) => new Turn(question, () => 0));
  turns[0].take(piece("A"));
  turns[2].take(piece("half of C"));
  assert.deepEqual(messagesOf(turns), [
    { role: "user", content: "a" },
    { role: "assistant", content: "A" },
    { role: "user", content: "b" },
    { role: "user", content: "c" },
  ]);
});

test("an earlier question that got an error and no text is not sent again", () => {
  const turns = ["too long", "half", "now"].map((question) => new Turn(question, () => 0));
  turns[0].end("error", new Error("too long"));
  turns[1].take(piece("some"));
  turns[1].end("error", new Error("broken off"));
  turns[2].end("error", new Error("tried once"));
  assert.deepEqual(messagesOf(turns), [
    { role: "user", content: "half" },
    { role: "assistant", content: "some" },
    { role: "user", content: "now" },
  ]);
});

test("what the same question cannot change is edited, the rest tried again", () => {
  const ways = [400, 413, 401, 429, 500, 503, 504, null].map((status) => wayOut({ status }));
  assert.deepEqual(ways, ["edit", "edit", ...Array(6).fill("again")]);
});

test("both languages have every word, and functions in the same places", () => {
  const shape = (texts) =>
    Object.entries(texts).map(([key, value]) =>
      typeof value === "object" ? [key, shape(value)] : [key, typeof value],
    );
  assert.deepEqual(shape(TEXTS.es), shape(TEXTS.en));
});

test("errors that people meet are in Spanish, and the codes are those of the servers", async () => {
  const files = ["../../docs/api/README.md", "../src/problem.js", "../public/api.js"];
  const sources = await Promise.all(files.map((file) => readFile(new URL(file, import.meta.url))));
  const known = new Set(sources.join("\n").match(/[`"][a-z]+(_[a-z]+)*[`"]/g));
  const page = await readFile(new URL("../public/texts.js", import.meta.url), "utf8");
  const table = page.slice(page.indexOf("const ERRORS"), page.indexOf("export function errorText"));
  const codes = [...table.matchAll(/^ {4}(\w+):/gm)].map(([, code]) => code);
  assert.ok(codes.length > 15);
  for (const code of codes) {
    assert.ok(known.has(`\`${code}\``) || known.has(`"${code}"`), code);
    assert.match(errorText("es", code), /\.$|\?$/);
    assert.equal(errorText("en", code), null);
  }
  const own = [...sources[1].toString().matchAll(/\b50[24],\s*"(\w+)"/g)].map(([, code]) => code);
  assert.ok(own.length > 3);
  for (const code of own) assert.ok(codes.includes(code), code);
  assert.equal(errorText("es", "constructor"), null);
});

test("numbers are written as the language does", () => {
  assert.equal(number("en", 4096), "4,096");
  assert.equal(number("es", 4096), "4.096");
  assert.equal(number("es", 3.25, 1), "3,3");
});
