// The words of the pages in both languages.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { adviceText, errorText, WORDS } from "../public/chat/words/index.js";
import { WORDS as METRICS } from "../public/metrics/words.js";
import { number } from "../public/shared/language.js";

function shape(words) {
  return Object.entries(words)
    .filter(([key]) => key !== "errors") // English ones are the servers' own
    .map(([key, value]) => (typeof value === "object" ? [key, shape(value)] : [key, typeof value]));
}

test("both languages have every word, and functions in the same places", () => {
  assert.deepEqual(shape(WORDS.es), shape(WORDS.en));
});

test("errors that people meet are in Spanish, and the codes are those of the servers", async () => {
  const files = [
    "../../docs/api/README.md",
    "../../docs/api/responses.md",
    "../src/problem.js",
    "../public/shared/api.js",
    "../public/chat/answers.js",
  ];
  const sources = await Promise.all(files.map((file) => readFile(new URL(file, import.meta.url))));
  const known = new Set(sources.join("\n").match(/[`"][a-z]+(_[a-z]+)*[`"]/g));
  const codes = [...Object.keys(WORDS.es.errors), ...Object.keys(WORDS.es.advice)];
  assert.ok(codes.length > 30);
  for (const code of codes) assert.ok(known.has(`\`${code}\``) || known.has(`"${code}"`), code);
  for (const text of Object.values(WORDS.es.errors)) assert.match(text, /\.$|\?$/);
  const own = [...sources[2].toString().matchAll(/\b50[24],\s*"(\w+)"/g)].map(([, code]) => code);
  assert.ok(own.length > 3);
  for (const code of own) assert.ok(Object.hasOwn(WORDS.es.errors, code), code);
});

test("a code is no property of something else", () => {
  for (const words of Object.values(WORDS)) {
    for (const code of ["constructor", "toString", "__proto__", null]) {
      assert.equal(errorText(words, code), null);
      assert.equal(adviceText(words, code), "");
    }
  }
});

test("numbers are written as the language does", () => {
  assert.equal(number("en", 40960), "40,960");
  assert.equal(number("es", 40960), "40.960");
  assert.equal(number("es", 3.25, 1), "3,3");
});

test("every state of the server has its words on both pages, and sleeping is as fine as ready", async () => {
  const read = (file) => readFile(new URL(file, import.meta.url), "utf8");
  const [, listed] = (await read("../../sheily_server/backend/health.py")).match(/^STATES = \(([^)]*)\)/m);
  const states = [...listed.matchAll(/"(\w+)"/g)].map(([, state]) => state);
  assert.ok(states.includes("sleeping") && states.includes("waking"));
  for (const language of ["en", "es"]) {
    for (const state of states) {
      assert.ok(WORDS[language].state[state], `${language} ${state}`);
      assert.ok(METRICS[language].states[state], `${language} ${state}`);
    }
  }
  for (const file of ["../public/css/chat.css", "../public/css/metrics.css"]) {
    assert.match(await read(file), /\[data-state="ready"\],\n\.?\w*\[data-state="sleeping"\] \{/);
  }
});
