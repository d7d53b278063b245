// What conversations look like in files of this page and of others. Pure, and trusts nothing: what
// comes out are drafts with whatever a file has in its fields.
//
// A draft is { title, created, updated, options, leaf, messages: [{ id, parent, role, text, created,
// extra }] } with the file's own ids; times are in milliseconds.

import { FORMAT } from "./export.js";

/** The drafts of a file's body; undefined where it has none that are known. */
export function draftsOf(body) {
  if (isObject(body) && body.format === FORMAT) return ofOurs(body);
  const lines = isObject(body) && Array.isArray(body.lines) ? body.lines : null;
  if (lines !== null) return ofSessions(lines);
  const list = Array.isArray(body) ? body : [body];
  if (list.length > 0 && list.every((each) => isObject(each?.mapping))) return list.map(ofChatGpt);
  if (list.length > 0 && list.every((each) => isObject(each?.chat))) return list.map(ofOpenWebUi);
  if (list.length > 0 && list.every((each) => isObject(each?.conv))) return list.map(ofLlamaServer);
  return undefined;
}

function ofOurs({ conversations }) {
  if (!Array.isArray(conversations)) return undefined;
  return conversations.filter(isObject).map((each) => ({
    ...each,
    messages: objectsIn(each.messages).map((message) => ({ ...message, extra: message })),
  }));
}

/** ChatGPT's conversations.json: a tree of nodes, with times in seconds. */
function ofChatGpt({ title, create_time: created, update_time: updated, mapping, current_node }) {
  const nodes = new Map(Object.entries(mapping).filter(([, node]) => isObject(node)));
  const said = [...nodes].filter(([, node]) => isSaidInChatGpt(node));
  const messages = said.map(([id, node]) => ({
    id,
    parent: saidBefore(nodes, node.parent, isSaidInChatGpt),
    role: node.message.author.role,
    text: textIn(node.message.content),
    extra: { model: node.message.metadata?.model_slug },
    created: 1000 * node.message.create_time,
  }));
  const leaf = saidBefore(nodes, current_node, isSaidInChatGpt);
  return { title, created: 1000 * created, updated: 1000 * updated, leaf, messages };
}

/** Not what is said to tools, nor what the page of its time did not show. */
function isSaidInChatGpt({ message }) {
  const role = message?.author?.role;
  if (role !== "user" && role !== "assistant") return false;
  if ((message.recipient ?? "all") !== "all") return false;
  if (message.metadata?.is_visually_hidden_from_conversation === true) return false;
  return textIn(message.content) !== "";
}

/** The texts of a content, and what was spoken; pictures and files are left out. */
function textIn(content) {
  const parts = Array.isArray(content?.parts) ? content.parts : [];
  const spoken = (part) => (part?.content_type === "audio_transcription" ? part.text : null);
  const texts = parts.map((part) => (typeof part === "string" ? part : spoken(part)));
  return texts.filter((text) => typeof text === "string").join("\n");
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
      extra: { model: each.model },
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
  const isSaid = ({ type, role }) => type !== "root" && (role === "user" || role === "assistant");
  const system = [...nodes.values()].find(({ role, content }) => role === "system" && content);
  return {
    title: conv.name,
    updated: conv.lastModified,
    options: { system: system?.content },
    leaf: saidBefore(nodes, conv.currNode, isSaid),
    messages: [...nodes.values()].filter(isSaid).map((each) => ({
      id: each.id,
      parent: saidBefore(nodes, each.parent, isSaid),
      role: each.role,
      text: each.content,
      created: each.timestamp,
      extra: { model: each.model, documents: attachedIn(each.extra) },
    })),
  };
}

const ATTACHED = { textFile: "text", TEXT: "text", context: "text", pdfFile: "pdf", PDF: "pdf" };

/** The texts that were attached to a message, by the names of their types then and now. */
function attachedIn(extra) {
  const found = objectsIn(extra).filter(({ type }) => Object.hasOwn(ATTACHED, type));
  return found.map(({ type, name, content }) => ({ name, kind: ATTACHED[type], text: content }));
}

/** Its newer export has a line for the conversation and one for each message. */
function ofSessions(lines) {
  const found = [];
  for (const line of lines.filter(isObject)) {
    if (line.type === "session") found.push({ conv: line, messages: [] });
    else if (line.type === "message") found.at(-1)?.messages.push(line.message ?? line);
  }
  if (found.length === 0) return undefined;
  return found.map(ofLlamaServer);
}

/** The objects of a list; none where it is no list. */
export function objectsIn(value) {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
