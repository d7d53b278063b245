// Conversations as files: as JSON, from which they come back, and as Markdown, to be read. Pure.

export const FORMAT = "sheily-conversations";
export const FORMAT_VERSION = 1;

/** Conversations with all their messages and versions, as JSON. */
export function exportJson(conversations, messages, { now }) {
  const body = conversations.map((each) => ({
    ...only(each, ["id", "title", "named", "created", "updated", "leaf", "options"]),
    messages: messages.get(each.id).map(exported),
  }));
  const exportedAt = new Date(now).toISOString();
  return JSON.stringify(
    { format: FORMAT, version: FORMAT_VERSION, exported: exportedAt, conversations: body },
    null,
    1,
  );
}

/** A message without what only this browser and this server know of it. */
function exported(message) {
  const fields = ["id", "parent", "role", "created", "text", "documents", "options"];
  const ended = ["outcome", "error", "finish", "timedOut", "dropped", "usage", "timings", "model"];
  const found = only(message, [...fields, ...ended]);
  if (["waiting", "streaming"].includes(found.outcome)) found.outcome = "stopped";
  return found;
}

function only(record, names) {
  return Object.fromEntries(names.filter((name) => name in record).map((name) => [name, record[name]]));
}

/** What is shown of a conversation, to be read: `path` are its messages, `words` say whose each is. */
export function exportMarkdown(conversation, path, words) {
  const parts = [`# ${oneLine(conversation.title)}`];
  if (conversation.options?.system) parts.push(quoted(conversation.options.system));
  for (const message of path) {
    const who = message.role === "user" ? words.you : words.answer;
    parts.push(`## ${who} · ${new Date(message.created).toLocaleString()}`);
    const names = (message.documents ?? []).map(({ name }) => oneLine(name));
    if (names.length > 0) parts.push(`*${words.documents}: ${names.join(", ")}*`);
    if (message.text !== "") parts.push(contained(message.text));
  }
  return `${parts.join("\n\n")}\n`;
}

function oneLine(text) {
  return text.replace(/\s+/g, " ").trim();
}

function quoted(text) {
  return text
    .split("\n")
    .map((line) => `> ${line}`)
    .join("\n");
}

/**
 * A text that takes in nothing of what follows it, though it was cut off or is no Markdown. A fence
 * that is open is closed; a text of which that cannot be said is quoted, as nothing leads out of a
 * quotation.
 */
function contained(text) {
  const open = openFence(text);
  if (open === null) return quoted(text);
  return open === "" ? text : `${text}\n${open}`;
}

const FENCE = /^([ \t]*)(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const FENCE_OF_LIST = /^[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)+(?:`{3}|~{3})/;
const HTML = /^[ \t>*+\-\d.)]*<[a-z/]/i;
const HTML_WITH_AN_END = /^[ \t>*+\-\d.)]*<(?:pre|script|style|textarea|[!?])/i;

/** The fence that is open at the end of a text, or ""; null where that depends on lists or HTML. */
function openFence(text) {
  let open = null;
  let inHtml = false;
  for (const line of text.split("\n")) {
    const [, indent, marks, rest] = FENCE.exec(line) ?? [];
    if (open === null) {
      if (HTML_WITH_AN_END.test(line) || FENCE_OF_LIST.test(line)) return null;
      if (line.trim() === "") inHtml = false; // which ends there, where nothing else ends it
      else inHtml ||= HTML.test(line);
      if (marks === undefined) continue;
      if (inHtml) return null;
      open = { indent, marks };
    } else if (marks?.startsWith(open.marks) && rest.trim() === "") {
      if (open.indent === "" ? /^ {0,3}$/.test(indent) : indent === open.indent) open = null;
      else if (open.indent !== "") return null;
    } else if (line.trim() !== "" && !line.startsWith(open.indent)) {
      return null; // the end of a list is the end of its fences
    }
  }
  if (open === null) return "";
  return open.indent === "" ? open.marks : null;
}
