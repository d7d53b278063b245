// Conversations from files of this page and of others. Pure: what a file has is checked and copied,
// field by field, and gets ids of its own, so that nothing that is here is overwritten.

import { cleanOptions } from "./options.js";
import { FORMAT, FORMAT_VERSION } from "./export.js";
import { newId } from "./ids.js";
import { titleOf } from "./messages.js";

export const MAX_BYTES = 64 * 1024 * 1024;
const MAX_TEXT = 4_000_000; // characters of a message
const MAX_MESSAGES = 50_000; // of a conversation

/** Why a file gives no conversations. */
export class ImportError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * The conversations of a file as `{ conversations, messages, skipped }`, where `skipped` has what was
 * left out and why: `empty`, `too_long`. Throws ImportError.
 */
export function importConversations(text) {
  if (text.length > MAX_BYTES) throw new ImportError("import_too_large");
  const found = readerOf(parsed(text));
  const result = { conversations: [], messages: [], skipped: [] };
  for (const each of found) take(each, result);
  return result;
}

/** The JSON of a file, or of each of its lines. */
function parsed(text) {
  try {
    const body = JSON.parse(text);
    return body?.type === "session" ? { lines: [body] } : body;
  } catch {
    // lines, perhaps
  }
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) throw new ImportError("import_is_not_json");
  try {
    return { lines: lines.map((line) => JSON.parse(line)) };
  } catch {
    throw new ImportError("import_is_not_json");
  }
}

// --- the formats ----------------------------------------------------------------------------------
//
// Each is read as drafts: { title, created, updated, options, leaf, messages: [{ id, parent, role,
// text, created, extra }] } with the file's own ids. Times are in milliseconds.

function readerOf(body) {
  if (isObject(body) && body.format === FORMAT) return ofOurs(body);
  const lines = isObject(body) && Array.isArray(body.lines) ? body.lines : null;
  if (lines !== null) return ofSessions(lines);
  const list = Array.isArray(body) ? body : [body];
  if (list.length > 0 && list.every((each) => isObject(each?.mapping))) return list.map(ofChatGpt);
  if (list.length > 0 && list.every((each) => isObject(each?.chat))) return list.map(ofOpenWebUi);
  if (list.length > 0 && list.every((each) => isObject(each?.conv))) return list.map(ofLlamaServer);
  throw new ImportError("import_unknown_format");
}

function ofOurs({ version, conversations }) {
  if (typeof version === "number" && version > FORMAT_VERSION) {
    throw new ImportError("import_newer_version");
  }
  if (!Array.isArray(conversations)) throw new ImportError("import_unknown_format");
  return conversations.filter(isObject).map((each) => ({
    ...each,
    messages: objectsIn(each.messages).map((message) => ({ ...message, extra: message })),
  }));
}

/** ChatGPT's conversations.json: a tree of nodes, with times in seconds. */
function ofChatGpt({ title, create_time: created, update_time: updated, mapping, current_node }) {
  const nodes = new Map(Object.entries(mapping).filter(([, node]) => isObject(node)));
  const messages = [...nodes.values()].filter(isSaidInChatGpt).map((node) => ({
    id: node.id,
    parent: saidBefore(nodes, node.parent, isSaidInChatGpt),
    role: node.message.author.role,
    text: textIn(node.message.content),
    created: 1000 * node.message.create_time,
  }));
  const leaf = saidBefore(nodes, current_node, isSaidInChatGpt);
  return { title, created: 1000 * created, updated: 1000 * updated, leaf, messages };
}

function isSaidInChatGpt(node) {
  const role = node?.message?.author?.role;
  return (role === "user" || role === "assistant") && textIn(node.message.content) !== "";
}

function textIn(content) {
  const parts = Array.isArray(content?.parts) ? content.parts : [];
  return parts.filter((part) => typeof part === "string").join("\n");
}

/** The id of the nearest node above, or of this one, that is shown; null where there is none. */
function saidBefore(nodes, id, isSaid) {
  const walked = new Set();
  while (nodes.has(id) && !walked.has(id)) {
    if (isSaid(nodes.get(id))) return id;
    walked.add(id);
    id = nodes.get(id).parent;
  }
  return null;
}

/** Open WebUI's export: a tree, with times in seconds; older ones have a list alone. */
function ofOpenWebUi({ title, chat, created_at: created, updated_at: updated }) {
  const history = chat.history ?? {};
  const tree = isObject(history.messages) ? Object.values(history.messages) : null;
  const list = tree ?? chained(objectsIn(chat.messages));
  return {
    title: title ?? chat.title,
    created: 1000 * created,
    updated: 1000 * updated,
    options: { system: chat.params?.system ?? chat.system },
    leaf: history.currentId ?? null,
    messages: objectsIn(list).map((each) => ({
      id: each.id,
      parent: each.parentId,
      role: each.role,
      text: each.content,
      created: 1000 * each.timestamp,
    })),
  };
}

/** A list whose messages follow each other. */
function chained(list) {
  return list.map((each, i) => ({ ...each, id: `${i}`, parentId: i === 0 ? null : `${i - 1}` }));
}

/** The export of llama-server's page: conversations with their messages, times in milliseconds. */
function ofLlamaServer({ conv, messages }) {
  const nodes = new Map(objectsIn(messages).map((each) => [each.id, each]));
  const isSaid = ({ type, role }) => type !== "root" && role !== "system";
  return {
    title: conv.name,
    updated: conv.lastModified,
    options: { system: [...nodes.values()].find(({ role, content }) => role === "system" && content)?.content },
    leaf: saidBefore(nodes, conv.currNode, isSaid),
    messages: [...nodes.values()].filter(isSaid).map((each) => ({
      id: each.id,
      parent: saidBefore(nodes, each.parent, isSaid),
      role: each.role,
      text: each.content,
      created: each.timestamp,
    })),
  };
}

/** Its newer export has a line for the conversation and one for each message. */
function ofSessions(lines) {
  const found = [];
  for (const line of lines.filter(isObject)) {
    if (line.type === "session") found.push({ conv: line, messages: [] });
    else if (line.type === "message") found.at(-1)?.messages.push(line.message ?? line);
  }
  if (found.length === 0) throw new ImportError("import_unknown_format");
  return found.map(ofLlamaServer);
}

// --- what is taken over ---------------------------------------------------------------------------

function take(draft, result) {
  const title = titleOf(asText(draft.title, 1000)) || "…";
  const said = draft.messages.filter(({ role }) => role === "user" || role === "assistant");
  if (said.length === 0) return result.skipped.push({ title, why: "empty" });
  if (said.length > MAX_MESSAGES) return result.skipped.push({ title, why: "too_long" });
  const now = Date.now();
  const created = asTime(draft.created) ?? asTime(said[0].created) ?? now;
  const ids = new Map(said.map(({ id }) => [id, newId()]));
  const conversation = {
    id: newId(),
    title,
    named: draft.named === true,
    created,
    updated: asTime(draft.updated) ?? created,
    leaf: ids.get(draft.leaf) ?? ids.get(said.at(-1).id),
    options: cleanOptions(draft.options),
  };
  const messages = said.map((each, i) => ({
    id: ids.get(each.id),
    conversation: conversation.id,
    parent: ids.get(each.parent) ?? null,
    role: each.role,
    created: asTime(each.created) ?? created + i,
    text: asText(each.text, MAX_TEXT),
    ...(each.role === "user" ? ofQuestion(each.extra) : ofAnswer(each.extra)),
  }));
  result.conversations.push(conversation);
  result.messages.push(...messages);
  return undefined;
}

function ofQuestion(extra = {}) {
  const documents = objectsIn(extra.documents)
    .slice(0, 100)
    .map((each) => ({
      name: asText(each.name, 200),
      kind: asText(each.kind, 20),
      text: asText(each.text, MAX_TEXT),
      tokens: asNumber(each.tokens) ?? 0,
      pages: [asNumber(each.pages?.[0]) ?? 1, asNumber(each.pages?.[1]) ?? 1],
      cut: each.cut === true,
      share: asNumber(each.share) ?? 1,
    }));
  const found = documents.length > 0 ? { documents } : {};
  if (typeof extra.prompt === "string") found.prompt = asText(extra.prompt, MAX_TEXT);
  return found;
}

const OUTCOMES = new Set(["done", "stopped", "error"]);

function ofAnswer(extra = {}) {
  const error = isObject(extra.error)
    ? { message: asText(extra.error.message, 10_000), code: asText(extra.error.code, 100) || null }
    : null;
  return {
    base: "",
    key: null,
    response: null,
    sequence: -1,
    outcome: OUTCOMES.has(extra.outcome) ? extra.outcome : "done",
    error: extra.outcome === "error" ? (error ?? { message: "", code: null }) : null,
    finish: extra.finish === "length" ? "length" : null,
    timedOut: extra.timedOut === true,
    dropped: asNumber(extra.dropped) ?? 0,
    usage: numbersIn(extra.usage),
    timings: numbersIn(extra.timings),
    model: asText(extra.model, 300) || null,
    options: cleanOptions(extra.options),
    progress: null,
    pieces: 0,
    asked: 0,
    first: null,
    last: null,
  };
}

function asText(value, most) {
  return typeof value === "string" ? value.slice(0, most).replace(/[\uD800-\uDBFF]$/, "") : "";
}

function asNumber(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A time in milliseconds, if it is one of this age of the world. */
function asTime(value) {
  const time = asNumber(value);
  return time !== undefined && time > 0 && time < 8.64e15 ? time : undefined;
}

/** An object with only its numbers; null where there are none. */
function numbersIn(value) {
  if (!isObject(value)) return null;
  const found = Object.entries(value).filter(([, each]) => asNumber(each) !== undefined);
  return found.length > 0 ? Object.fromEntries(found.slice(0, 50)) : null;
}

function objectsIn(value) {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
