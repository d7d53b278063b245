// What of Markdown needs no browser: texts that are not whole yet, and where links lead.

import assert from "node:assert/strict";
import { test } from "node:test";

import { destinationOf, names } from "../public/markdown/links.js";
import { settled } from "../public/markdown/unfinished.js";

test("what is open is closed", () => {
  const cases = [
    ["a **bold", "a **bold**"],
    ["a **bold*", "a **bold**"],
    ["a **bold with *em", "a **bold with *em***"],
    ["***both", "***both***"],
    ["***both** em", "***both** em*"],
    ["~~gone", "~~gone~~"],
    ["a `code", "a `code`"],
    ["a ``code ` in", "a ``code ` in``"],
    ["**bold `code", "**bold `code`**"],
    ["_em and snake_case", "_em and snake_case_"],
    ["**done** and", "**done** and"],
    ["**bold ", "**bold**"],
    ["- **one\n- two", "- **one\n- two"],
    ["| a | b |\n|---|---|\n| **x", "| a | b |\n|---|---|\n| **x**"],
  ];
  for (const [text, shown] of cases) assert.equal(settled(text), shown, text);
});

test("what may become something else waits", () => {
  const cases = [
    ["a **", "a "],
    ["a *", "a "],
    ["a `", "a "],
    ["a [link", "a "],
    ["a **bold [link", "a **bold**"],
    ["a **[link", "a"],
    ["a [link]", "a "],
    ["a [link](http", "a link"],
    ["a [*link*](http://x/(y)", "a *link*"],
    ["a [link][re", "a link"],
    ["a ![picture](http", "a "],
    ["a [![picture](http://x)](y", "a ![picture](http://x)"],
    ["a\n-", "a\n"],
    ["a\n---", "a\n"],
    ["a\n\n#", "a\n\n"],
    ["a\n\n1.", "a\n\n"],
    ["a\n\n``", "a\n\n"],
    ["a\n\n```py", "a\n\n"],
    ["a\n\n```py\nx\n``", "a\n\n```py\nx"],
    ["- [ ]", ""],
    ["a <br", "a "],
    ["a &am", "a "],
    ["a \\", "a "],
    ["| a | b |", ""],
    ["a\n\n| a | b |\n", "a\n\n"],
    ["a\n\n| a | b |\n|--", "a\n\n"],
    ["a\n\n[ref]: http", "a\n\n"],
  ];
  for (const [text, shown] of cases) assert.equal(settled(text), shown, text);
});

test("what is whole, or no Markdown, stays as it is", () => {
  const texts = [
    "2 * 3 * 4",
    "a*b and snake_case_name",
    "5 < 6 and AT&T said",
    "an array[0] of",
    "`[` and `**`",
    "[link](http://x) after",
    "[a (note) and](http://x/(y)) after",
    "a \\[x * y",
    "$$ x * y",
    "```js\nconst a = `**",
    "1. a\n\n   ```js\n   const a = [",
    "see https://x.example/a_b_",
    "| a | b |\n|---|---|\n",
    "| a line of text\n| and another\n",
    "a & b",
    "",
  ];
  for (const text of texts) assert.equal(settled(text), text);
});

test("the longest text that is looked through takes no square of its length", () => {
  const pieces = ["[", "](", "**", "*a ", "_", "`", "``a", "<", "&", "!", "\\", "~~", "$", "|", "\n"];
  for (const a of pieces) {
    for (const b of pieces) {
      const text = (a + b).repeat(10_000).slice(0, 20_000);
      assert.ok(settled(text).length <= 2 * text.length);
    }
  }
});

test("links lead to sites and mailboxes alone", () => {
  const places = {
    "https://example.com/a": "example.com",
    "HTTP://Example.COM:8080": "example.com:8080",
    "https://user:secret@evil.example/": "evil.example",
    "https://аррӏе.com/": "xn--80ak6aa92e.com",
    "https://example.com\\@evil.example": "example.com",
    "http://0x7f.1/": "127.0.0.1",
    "mailto:a@b.example?subject=x": "a@b.example",
  };
  for (const [address, place] of Object.entries(places)) {
    assert.equal(destinationOf(address).place, place);
  }
  for (const address of [
    ...["javascript:alert(1)", "data:text/html,x", "vbscript:x", "blob:https://a/b", "file:///etc"],
    ...["/path", "#id", "//host", "", "mailto:", "https://", "ftp://host/", null, "view-source:http://x"],
  ]) {
    assert.equal(destinationOf(address), null, address);
  }
});

test("a text says where a link leads only in plain letters, and first", () => {
  for (const text of ["example.com", "https://EXAMPLE.com/a?b", "http://example.com", " example.com "]) {
    assert.ok(names(text, "example.com"), text);
  }
  assert.ok(names("A@b.example", "a@b.example"));
  for (const text of [
    ...["bank.example", "https://example.com@evil.example", "evil.example/example.com", "here"],
    ...["ехample.com", "example.com\u202e", "exam\u200bple.com", "see example.com", "example.com."],
    ...["https://bank.example\\@example.com", "example.com:80", ""],
  ]) {
    assert.ok(!names(text, "example.com"), text);
  }
});
