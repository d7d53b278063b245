// Server-sent events out of bytes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { eventData } from "../public/shared/sse.js";

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
