// Conversations from files of this page and of others. Pure: what a file has is checked and copied,
// field by field, and gets ids of its own, so that nothing that is here is overwritten.

import { documentsPrompt } from "../documents/fit.js";
import { FORMAT, FORMAT_VERSION } from "./export.js";
import { draftsOf, isObject, objectsIn } from "./formats.js";
import { newId } from "./ids.js";
import { cleanTitle } from "./messages.js";
import { cleanOptions } from "./options.js";

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
  const body = parsed(text);
  if (body?.format === FORMAT && body.version > FORMAT_VERSION) {
    throw new ImportError("import_newer_version");
  }
  const found = draftsOf(body);
  if (found === undefined) throw new ImportError("import_unknown_format");
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

function take(draft, result) {
  const title = cleanTitle(asText(draft.title, 1000)) || "…";
  const said = draft.messages.filter(({ role }) => role === "user" || role === "assistant");
  if (said.length === 0) return result.skipped.push({ title, why: "empty" });
  if (said.length > MAX_MESSAGES) return result.skipped.push({ title, why: "too_long" });
  const now = Date.now();
  const created = asTime(draft.created, now) ?? asTime(said[0].created, now) ?? now;
  const own = said.map(() => newId()); // also of two messages with one id, or with none
  const ids = new Map(said.map(({ id }, i) => [id, own[i]]));
  const parentOf = parentsIn(draft.messages, ids);
  const conversation = {
    id: newId(),
    title,
    named: draft.named === true,
    created,
    updated: asTime(draft.updated, now) ?? created,
    leaf: ids.get(draft.leaf) ?? own.at(-1),
    options: cleanOptions(draft.options),
  };
  const messages = said.map((each, i) => ({
    id: own[i],
    conversation: conversation.id,
    parent: parentOf(each),
    role: each.role,
    created: asTime(each.created, now) ?? created + i,
    text: asText(each.text, MAX_TEXT),
    ...(each.role === "user" ? ofQuestion(each) : ofAnswer(each.extra)),
  }));
  result.conversations.push(conversation);
  for (const each of messages) result.messages.push(each);
  return undefined;
}

/** A function for the new id of a message's parent: the nearest above it that is taken over. */
function parentsIn(messages, ids) {
  const all = new Map(messages.map((each) => [each.id, each]));
  return ({ parent }) => {
    const walked = new Set();
    let id = parent;
    while (!ids.has(id) && all.has(id) && !walked.has(id)) {
      walked.add(id);
      id = all.get(id).parent;
    }
    return ids.get(id) ?? null;
  };
}

/** The documents of a question; what the model reads is made of what a person sees of them. */
function ofQuestion({ text, extra = {} }) {
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
  if (documents.length === 0) return {};
  return { documents, prompt: documentsPrompt(documents, asText(text, MAX_TEXT)) };
}

/** What was being made when a file was written came to no end. */
const OUTCOMES = {
  __proto__: null,
  waiting: "stopped",
  streaming: "stopped",
  stopped: "stopped",
  error: "error",
};

function ofAnswer(extra = {}) {
  const error = isObject(extra.error)
    ? { message: asText(extra.error.message, 10_000), code: asText(extra.error.code, 100) || null }
    : null;
  return {
    base: "",
    key: null,
    response: null,
    sequence: -1,
    outcome: OUTCOMES[extra.outcome] ?? "done",
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
  if (typeof value !== "string") return "";
  const cut = value.slice(0, most).replace(/[\uD800-\uDBFF]$/, "");
  return cut.replace(/\p{Cs}/gu, "\uFFFD"); // half letters, which no server takes
}

function asNumber(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** A time in milliseconds that has been. */
function asTime(value, now) {
  const time = asNumber(value);
  return time !== undefined && time > 0 ? Math.min(time, now) : undefined;
}

/** An object with only its numbers; null where there are none. */
function numbersIn(value) {
  if (!isObject(value)) return null;
  const found = Object.entries(value).filter(([, each]) => asNumber(each) !== undefined);
  return found.length > 0 ? Object.fromEntries(found.slice(0, 50)) : null;
}
