// The options of a conversation.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  cleanOptions,
  fieldsOf,
  PRESETS,
  presetOf,
  readNumber,
  withPreset,
} from "../public/data/options.js";

test("numbers are read as people write them, within bounds", () => {
  assert.equal(readNumber("temperature", "0,7"), 0.7);
  assert.equal(readNumber("temperature", " 2 "), 2);
  assert.equal(readNumber("temperature", ""), null);
  for (const wrong of ["2.1", "-1", "warm", "1e9", "NaN", "Infinity"]) {
    assert.equal(readNumber("temperature", wrong), undefined, wrong);
  }
  assert.equal(readNumber("top_k", "40"), 40);
  assert.equal(readNumber("top_k", "40.5"), undefined);
});

test("options of a file have only what is known and allowed", () => {
  const given = { temperature: 9, top_p: 0.5, system: "Be short.", model: "other", seed: "1" };
  assert.deepEqual(cleanOptions(given), { top_p: 0.5, system: "Be short." });
  for (const nothing of [null, undefined, 3, "text", []]) assert.deepEqual(cleanOptions(nothing), {});
});

test("a preset sets the sampling and leaves the rest", () => {
  const before = { system: "Be short.", seed: 3, temperature: 1.5, top_k: 3 };
  const after = withPreset(before, PRESETS.precise);
  assert.deepEqual(after, { system: "Be short.", seed: 3, temperature: 0.2, top_p: 0.9 });
  assert.equal(presetOf(after), "precise");
  assert.equal(presetOf({}), "own");
  assert.equal(presetOf({ temperature: 0.33 }), null);
  assert.equal(presetOf({ temperature: 0.33 }, { mine: { temperature: 0.33 } }), "mine");
});

test("the server is asked with what was set and nothing else", () => {
  assert.deepEqual(fieldsOf({}), {});
  const fields = fieldsOf({ system: "Be short.", max_output_tokens: 50 });
  assert.deepEqual(fields, { instructions: "Be short.", max_output_tokens: 50 });
});
