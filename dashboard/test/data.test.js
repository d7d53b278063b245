// Trees of messages, what is sent of them, and conversations as files.

import assert from "node:assert/strict";
import { test } from "node:test";

import { marked } from "marked";

import { exportJson, exportMarkdown } from "../public/data/export.js";
import { importConversations, ImportError } from "../public/data/import.js";
import { cleanTitle, inputOf, titleOf } from "../public/data/messages.js";
import { find, fold } from "../public/data/search.js";
import { MemoryStore } from "../public/data/store.js";
import { Tree } from "../public/data/tree.js";
import { documentsPrompt } from "../public/documents/fit.js";

function message(id, parent, role = "user", fields = {}) {
  return { id, parent, role, created: 0, text: `text of ${id}`, ...fields };
}

function answer(id, parent, fields = {}) {
  return message(id, parent, "assistant", { outcome: "done", error: null, ...fields });
}

// --- trees ----------------------------------------------------------------------------------------

test("a tree has paths, versions and newest leaves", () => {
  const tree = new Tree([
    answer("b", "a", { created: 2 }),
    message("a", null, "user", { created: 1 }),
    answer("b2", "a", { created: 5 }),
    message("c", "b", "user", { created: 3 }),
    answer("d", "c", { created: 4 }),
  ]);
  const ids = (found) => found.map(({ id }) => id);
  assert.deepEqual(ids(tree.path("d")), ["a", "b", "c", "d"]);
  assert.deepEqual(ids(tree.siblings("b2")), ["b", "b2"]);
  assert.equal(tree.newestLeaf("b"), "d");
  assert.equal(tree.newestLeaf("a"), "b2");
  tree.add(message("a2", null, "user", { created: 6 }));
  assert.deepEqual(ids(tree.siblings("a")), ["a", "a2"]);
  tree.replace(answer("d", "c", { text: "new" }));
  assert.equal(tree.path("d").at(-1).text, "new");
  assert.deepEqual(tree.remove("b").sort(), ["b", "c", "d"]);
  assert.equal(tree.size, 3);
  assert.deepEqual(tree.path("d"), []);
  assert.throws(() => tree.replace(message("nobody", null)), RangeError);
  tree.remove("a2");
  tree.add(message("a2", "b2"));
  assert.deepEqual(ids(tree.path("a2")), ["a", "b2", "a2"]);
  tree.add(message("own", "own"));
  assert.deepEqual(ids(tree.path("own")), ["own"]);
});

test("any tree is whole: each message is on its path, and what is removed is gone", () => {
  let seed = 1;
  const below = (n) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % n;
  };
  for (let round = 0; round < 2_000; round += 1) {
    const n = 1 + below(12);
    const made = Array.from({ length: n }, () => {
      const parent = below(5) ? `${below(n + 3)}` : null;
      return message(`${below(n + 2)}`, parent, below(2) ? "user" : "assistant", { created: below(4) });
    });
    const tree = new Tree(made);
    const ids = [...new Set(made.map(({ id }) => id))];
    assert.equal(tree.size, ids.length);
    for (const id of ids) {
      assert.equal(tree.path(id).at(-1).id, id);
      assert.ok(tree.siblings(id).some((each) => each.id === id));
      assert.ok(tree.path(tree.newestLeaf(id)).some((each) => each.id === id));
    }
    const removed = tree.remove(ids[below(ids.length)]);
    assert.equal(new Set(removed).size, removed.length);
    assert.equal(tree.size, ids.length - removed.length);
    for (const id of ids) {
      assert.equal(tree.path(id).at(-1)?.id, removed.includes(id) ? undefined : id);
    }
  }
});

test("broken trees are whole again: missing parents, circles, doubles", () => {
  const tree = new Tree([
    message("a", "missing"),
    message("x", "z"),
    message("y", "x"),
    message("z", "y"),
    message("self", "self"),
    message("a", null, "user", { text: "double" }),
  ]);
  assert.equal(tree.size, 5);
  for (const id of ["a", "x", "y", "z", "self"]) {
    const path = tree.path(id);
    assert.equal(path.at(-1).id, id);
    assert.ok(path.length <= 3);
  }
  assert.equal(tree.get("a").text, "text of a");
});

test("a long conversation needs no stack", () => {
  const messages = Array.from({ length: 20_000 }, (_, i) => {
    return message(`${i}`, i === 0 ? null : `${i - 1}`, i % 2 ? "assistant" : "user");
  });
  const tree = new Tree(messages.reverse());
  assert.equal(tree.path("19999").length, 20_000);
  assert.equal(tree.newestLeaf("0"), "19999");
  assert.equal(tree.remove("1").length, 19_999);
});

// --- what is sent ---------------------------------------------------------------------------------

test("what is sent is the questions with their answers, and the last question", () => {
  const path = [
    message("a", null),
    answer("b", "a"),
    message("c", "b", "user", { prompt: "with a document" }),
    answer("d", "c", { text: "", outcome: "error", error: { code: "x" } }),
    message("e", "d"),
    answer("f", "e", { text: "", outcome: "stopped" }),
    message("g", "f"),
  ];
  const { items, dropped } = inputOf(path);
  assert.equal(dropped, 0);
  const said = items.map(({ role, content }) => `${role}: ${content}`);
  assert.deepEqual(said, [
    "user: text of a",
    "assistant: text of b",
    "user: text of e",
    "user: text of g",
  ]);
  assert.equal(inputOf([path[2]]).items[0].content, "with a document");
});

test("where there is too much, the newest are sent, from a question on", () => {
  const path = Array.from({ length: 41 }, (_, i) =>
    i % 2 ? answer(`${i}`, `${i - 1}`) : message(`${i}`, `${i - 1}`),
  );
  const few = inputOf(path, { maxItems: 10 });
  assert.equal(few.items[0].role, "user");
  assert.ok(few.items.length <= 10 && few.items.length >= 9);
  assert.equal(few.items.length + few.dropped, 41);
  assert.equal(few.items.at(-1).content, "text of 40");
  const small = inputOf(path, { maxBytes: 300 });
  assert.ok(JSON.stringify(small.items).length < 400);
  assert.equal(inputOf(path, { maxBytes: 1 }).items.length, 1);
  const longest = message("x", null, "user", { text: "ñ".repeat(3_000_000) });
  assert.equal(inputOf([...path, longest]).items.length, 1);
});

test("a title is the first line, without marks, and not long", () => {
  assert.equal(titleOf("# Hello **world**\nmore"), "Hello world");
  assert.equal(titleOf("```\ncode()\n```"), "code()");
  assert.equal(titleOf("\n\n  - see [here](https://a.b)  "), "see here");
  assert.equal(titleOf(""), "");
  const long = titleOf("word ".repeat(40));
  assert.ok(long.length <= 60 && long.endsWith("word…"), long);
  assert.equal([...titleOf("😀".repeat(100))].length, 60);
  assert.equal(titleOf("a\u202Eb\u0000c"), "a b c");
  assert.equal(titleOf("**fix** `get_user_name` in __init__, 2*3*4"), "fix get_user_name in __init__, 2*3*4");
  assert.equal(titleOf("👨‍👩‍👧 family"), "👨‍👩‍👧 family");
  assert.equal(cleanTitle("1. Plan *B*\n"), "1. Plan *B*");
});

test("a line of a megabyte is no title, and ends a search for marks soon", () => {
  for (const piece of [" _x", "[", " **b", "`"]) {
    const title = titleOf(piece.repeat(400_000));
    assert.ok(title.length <= 60, title);
  }
});

// --- search ---------------------------------------------------------------------------------------

test("words are found with accents and without, where they are", () => {
  assert.deepEqual(find("Un LEÓN ruge", fold("leon")), ["Un ", "LEÓN", " ruge"]);
  assert.deepEqual(find("straße", fold("STRASSE")), null);
  assert.deepEqual(find("😀😀 año nuevo", fold("ano")), ["😀😀 ", "año", " nuevo"]);
  assert.deepEqual(find("an\u0303o", fold("an")), ["", "an\u0303", "o"]);
  assert.deepEqual(find("각하, 한국어", fold("한")), ["각하, ", "한", "국어"]);
  assert.deepEqual(find("각하", fold("가")), ["", "각", "하"]); // half of a letter finds all of it
  assert.deepEqual(find("Η ΟΔΟΣ", fold("οδός")), ["Η ", "ΟΔΟΣ", ""]);
  assert.equal(find("nothing", "else"), null);
  const [before, match, after] = find(`${"x".repeat(500)} here ${"y".repeat(500)}`, "here");
  assert.equal(match, "here");
  assert.ok(before.startsWith("…") && before.length < 60);
  assert.ok(after.endsWith("…") && after.length < 100);
});

test("a search goes over titles and messages, newest conversations first, and can be ended", async () => {
  const store = new MemoryStore();
  const conversations = [1, 2, 3].map((i) => ({ id: `c${i}`, title: `Number ${i}`, updated: i }));
  const messages = conversations.map(({ id }) => message(`m-${id}`, null, "user", { conversation: id }));
  await store.write({ conversations, messages });
  const found = [];
  for await (const each of store.search("number")) found.push(each.conversation.id);
  assert.deepEqual(found, ["c3", "c2", "c1"]);
  const texts = [];
  for await (const each of store.search("TEXT OF", { limit: 2 })) texts.push(each.message.id);
  assert.deepEqual(texts, ["m-c3", "m-c2"]);
  const controller = new AbortController();
  controller.abort();
  const ended = store.search("text", { signal: controller.signal });
  await assert.rejects(ended.next(), { name: "AbortError" });
});

// --- files ----------------------------------------------------------------------------------------

const CONVERSATION = {
  id: "c",
  title: "A title",
  named: true,
  created: 1000,
  updated: 2000,
  leaf: "d",
  options: { temperature: 0.5, system: "Be short." },
};
const MESSAGES = [
  message("a", null, "user", {
    documents: [{ name: "n.txt", kind: "text", text: "t", tokens: 3, pages: [1, 2], cut: true, share: 0.5 }],
    prompt: "what the model read",
  }),
  answer("b", "a", { usage: { total_tokens: 9 }, model: "m", response: "resp_1", key: "secret" }),
  answer("b2", "a", { created: 1 }),
  message("c", "b"),
  answer("d", "c", { outcome: "streaming", text: "half" }),
];

function roundTrip() {
  const text = exportJson([CONVERSATION], new Map([["c", MESSAGES]]), { now: 0 });
  return { text, ...importConversations(text) };
}

test("what leaves as JSON comes back the same, with ids of its own", () => {
  const { text, conversations, messages, skipped } = roundTrip();
  assert.ok(!text.includes("secret") && !text.includes("resp_1"));
  assert.deepEqual(skipped, []);
  const { id, leaf, ...rest } = conversations[0];
  assert.notEqual(id, "c");
  const { id: _, leaf: __, ...expected } = CONVERSATION;
  assert.deepEqual(rest, expected);
  const path = new Tree(messages).path(leaf);
  assert.deepEqual(path.map(({ text }) => text), ["text of a", "text of b", "text of c", "half"]);
  assert.deepEqual(path[0].documents, MESSAGES[0].documents);
  assert.equal(path[0].prompt, documentsPrompt(MESSAGES[0].documents, "text of a"));
  assert.deepEqual(path[1].usage, { total_tokens: 9 });
  assert.equal(path[3].outcome, "stopped");
  assert.equal(messages.length, 5);
  const again = roundTrip();
  assert.notEqual(again.conversations[0].id, id);
});

test("files of others: ChatGPT, Open WebUI, llama-server", () => {
  const node = (id, parent, role, parts) => ({
    id,
    parent,
    children: [],
    message: role && { author: { role }, create_time: 1.7e9, content: { content_type: "text", parts } },
  });
  const chatGpt = {
    title: "From ChatGPT",
    create_time: 1.7e9,
    update_time: 1.7e9 + 5,
    current_node: "tool",
    mapping: {
      root: node("root", null, null),
      system: node("system", "root", "system", [""]),
      q: node("q", "system", "user", ["What?", { image: true }]),
      a: node("a", "q", "assistant", ["That."]),
      tool: node("tool", "a", "tool", ["result"]),
    },
  };
  const webUi = {
    title: "From Open WebUI",
    created_at: 1.7e9,
    updated_at: 1.7e9,
    chat: {
      history: {
        currentId: "a",
        messages: {
          q: { id: "q", parentId: null, role: "user", content: "What?", timestamp: 1.7e9 },
          a: { id: "a", parentId: "q", role: "assistant", content: "That.", timestamp: 1.7e9 },
        },
      },
    },
  };
  const older = { chat: { title: "Older", messages: Object.values(webUi.chat.history.messages) } };
  const llama = {
    conv: { id: "c", name: "From llama-server", lastModified: 1.7e12, currNode: "a" },
    messages: [
      { id: "r", type: "root", role: "system", content: "", parent: null, timestamp: 1.7e12 },
      { id: "s", type: "text", role: "system", content: "Be short.", parent: "r", timestamp: 1.7e12 },
      { id: "q", type: "text", role: "user", content: "What?", parent: "s", timestamp: 1.7e12 },
      { id: "a", type: "text", role: "assistant", content: "That.", parent: "q", timestamp: 1.7e12 },
    ],
  };
  const lines = [
    { type: "session", harness: "x", ...llama.conv },
    ...llama.messages.map((each) => ({ type: "message", message: each })),
  ];
  for (const [body, title] of [
    [[chatGpt], "From ChatGPT"],
    [[webUi], "From Open WebUI"],
    [[older], "Older"],
    [llama, "From llama-server"],
    [[llama], "From llama-server"],
    [lines, "From llama-server"],
  ]) {
    const text = body === lines ? lines.map((each) => JSON.stringify(each)).join("\n") : JSON.stringify(body);
    const { conversations, messages } = importConversations(text);
    assert.equal(conversations[0].title, title);
    const said = new Tree(messages).path(conversations[0].leaf);
    assert.deepEqual(said.map(({ role, text }) => `${role} ${text}`), ["user What?", "assistant That."]);
    assert.ok(conversations[0].created > 1.6e12);
    const system = title === "From llama-server" ? "Be short." : undefined;
    assert.equal(conversations[0].options.system, system);
  }
});

function imported(messages) {
  const body = { format: "sheily-conversations", version: 1, conversations: [{ title: "t", messages }] };
  return importConversations(JSON.stringify(body));
}

test("messages with one id, or none, are all there", () => {
  const twice = { id: "a", role: "user", text: "1" };
  const { messages } = imported([twice, { ...twice, text: "2" }, { role: "user" }, { role: "user" }]);
  assert.equal(new Set(messages.map(({ id }) => id)).size, 4);
});

test("what is left out of a file is no gap in its conversations", () => {
  const { conversations, messages } = imported([
    message("q", null),
    message("call", "q", "system"),
    message("result", "call", "tool"),
    answer("a", "result"),
  ]);
  const said = new Tree(messages).path(conversations[0].leaf);
  assert.deepEqual(said.map(({ text }) => text), ["text of q", "text of a"]);
});

test("a model reads of an imported question what a person sees of it", () => {
  const hidden = { id: "q", role: "user", text: "Hi\ud800 there", prompt: "Do something else." };
  assert.deepEqual(inputOf(imported([hidden]).messages).items, [{ role: "user", content: "Hi\uFFFD there" }]);
});

test("spoken words, attached texts and models of others come too; talk with tools does not", () => {
  const node = (id, parent, role, content, more) => {
    return [id, { parent, message: { author: { role }, content, ...more } }];
  };
  const spoken = { content_type: "audio_transcription", text: "What?" };
  const chatGpt = {
    title: "t",
    current_node: "a",
    mapping: Object.fromEntries([
      node("hidden", null, "user", { parts: ["x"] }, { metadata: { is_visually_hidden_from_conversation: true } }),
      node("q", "hidden", "user", { parts: [{ content_type: "image_asset_pointer" }, spoken] }),
      node("call", "q", "assistant", { parts: ['{"prompt": "x"}'] }, { recipient: "dalle.text2im" }),
      node("a", "call", "assistant", { parts: ["That."] }, { recipient: "all", metadata: { model_slug: "m" } }),
    ]),
  };
  const of = (body) => importConversations(JSON.stringify(body)).messages;
  const [question, answered] = of([chatGpt]);
  assert.deepEqual([question.text, answered.text, answered.model], ["What?", "That.", "m"]);
  assert.equal(answered.parent, question.id);

  const attached = ["textFile", "TEXT", "pdfFile", "IMAGE", "constructor"].map((type) => {
    return { type, name: `${type}.x`, content: "body" };
  });
  const messages = [
    { id: "q", type: "text", role: "user", content: "What?", parent: null, extra: attached },
    { id: "t", type: "text", role: "tool", content: "result", parent: "q" },
    { id: "a", type: "text", role: "assistant", content: "That.", parent: "t", model: "m" },
  ];
  const [asked, said] = of({ conv: { name: "t", currNode: "a" }, messages });
  assert.deepEqual(asked.documents.map(({ kind }) => kind), ["text", "text", "pdf"]);
  assert.equal(asked.prompt, documentsPrompt(asked.documents, "What?"));
  assert.deepEqual([said.parent, said.model], [asked.id, "m"]);
});

test("a file that gives nothing says why", () => {
  for (const [text, code] of [
    ["not JSON", "import_is_not_json"],
    ["", "import_is_not_json"],
    ["{}", "import_unknown_format"],
    ["[]", "import_unknown_format"],
    ["[1, 2]", "import_unknown_format"],
    ['{"format": "sheily-conversations", "version": 2, "conversations": []}', "import_newer_version"],
    ['{"format": "sheily-conversations", "version": 1}', "import_unknown_format"],
    ["x".repeat(64 * 1024 * 1024 + 1), "import_too_large"],
  ]) {
    assert.throws(() => importConversations(text), (error) => {
      return error instanceof ImportError && error.code === code;
    }, code);
  }
});

test("nothing of a hostile file gets through but texts and numbers", () => {
  const evil = {
    format: "sheily-conversations",
    version: 1,
    conversations: [
      {
        id: "__proto__",
        title: { toString: "x" },
        created: "yesterday",
        updated: 1e99,
        leaf: "missing",
        options: { temperature: 99, __proto__: { system: "x" }, top_p: 0.5 },
        messages: [
          { id: "a", parent: "a", role: "user", text: 5, documents: [{ name: {}, text: null }, 3] },
          { id: "b", parent: "nowhere", role: "assistant", text: "t", outcome: "waiting", error: "x" },
          { id: "c", role: "system", text: "no" },
          null,
          "text",
        ],
      },
      { title: "nothing said", messages: [] },
    ],
  };
  const text = JSON.stringify(evil).replace('"options":{', '"options":{"__proto__":{"seed":1},');
  const { conversations, messages, skipped } = importConversations(text);
  assert.deepEqual(skipped, [{ title: "nothing said", why: "empty" }]);
  assert.equal(conversations[0].title, "…");
  assert.deepEqual(conversations[0].options, { top_p: 0.5 });
  assert.equal({}.seed, undefined);
  assert.equal(messages.length, 2);
  assert.equal(messages[0].text, "");
  assert.deepEqual(messages[0].documents[0].name, "");
  assert.equal(messages[1].outcome, "stopped");
  assert.ok(conversations[0].updated <= Date.now());
  assert.equal(new Tree(messages).path(conversations[0].leaf).at(-1).text, "t");
});

test("Markdown can be read, and an answer that was cut off takes nothing in", () => {
  const path = [MESSAGES[0], { ...MESSAGES[1], text: "```js\nlet a" }, MESSAGES[3]];
  const words = { you: "You", answer: "Answer", documents: "Documents" };
  const text = exportMarkdown({ ...CONVERSATION, title: "A\ntitle" }, path, words);
  assert.match(text, /^# A title\n\n> Be short\.\n\n## You · .*\n\n\*Documents: n\.txt\*/);
  assert.match(text, /let a\n```\n\n## You/);
});

test("whatever is said, the headings of a conversation as Markdown are seen", () => {
  const lines = ["", "text", "```", "```js", "````", "~~~", "   ```", "    ```", "```code``` here"];
  lines.push("1. Do", "- a", "- ```", "  - b", "    x", "> ```", "> x", "<pre>", "<!-- this", "</pre>");
  lines.push("<div>", "  ```sh", "\t```", "- > ```", "<?x", "* * *", "| a |", "  </script>", "1) <style>");
  let seed = 7;
  const below = (n) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % n;
  };
  const said = () => Array.from({ length: 1 + below(6) }, () => lines[below(lines.length)]).join("\n");
  const words = { you: "You", answer: "Answer", documents: "Documents" };
  for (let round = 0; round < 5_000; round += 1) {
    const path = [message("a", null, "user", { text: said() }), answer("b", "a", { text: said() })];
    path.push(message("c", "b"));
    const text = exportMarkdown(CONVERSATION, path, words);
    const tokens = marked.lexer(text);
    const seen = tokens.filter(({ type, depth, text }) => {
      return type === "heading" && depth === 2 && /^(You|Answer) · /.test(text);
    });
    assert.equal(seen.length, 3, text);
  }
});
