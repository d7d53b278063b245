// Conversations as files: saved by the browser, and read from one that a person chose.

import { exportJson, exportMarkdown } from "../data/export.js";
import { ImportError, importConversations, MAX_BYTES } from "../data/import.js";
import { Tree } from "../data/tree.js";

/** Saves one conversation as `md` or `json`. */
export async function saveConversation(chat, id, kind, ui) {
  const { conversations, messages } = await chat.all(id);
  const [conversation] = conversations;
  if (kind === "json") {
    save(exportJson(conversations, messages, { now: Date.now() }), `${nameOf(conversation)}.json`);
    return;
  }
  const path = new Tree(messages.get(id)).path(conversation.leaf);
  const text = exportMarkdown(conversation, path, ui.words.value.exportWords);
  save(text, `${nameOf(conversation)}.md`);
}

export async function saveAll(chat) {
  const { conversations, messages } = await chat.all();
  const day = new Date().toISOString().slice(0, 10);
  save(exportJson(conversations, messages, { now: Date.now() }), `sheily-${day}.json`);
}

/** Takes the conversations of a file; says how many, or what is wrong with it. */
export async function load(chat, file, words) {
  try {
    if (file.size > MAX_BYTES) throw new ImportError("import_too_large");
    const { conversations, messages, skipped } = importConversations(await file.text());
    await chat.add({ conversations, messages });
    const message = words.imported(conversations.length, skipped.length);
    chat.notice.value = { good: true, message };
  } catch (error) {
    if (error.code === undefined) throw error;
    chat.notice.value = { code: error.code, name: file.name.slice(0, 120) };
  }
}

function nameOf({ title }) {
  const plain = title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return plain.slice(0, 60) || "sheily";
}

function save(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
