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
  const fields = ["id", "parent", "role", "created", "text", "prompt", "documents", "options"];
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
    if (message.text !== "") parts.push(closed(message.text));
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

/** A text whose fences are all closed: an answer that was cut off would take in what follows it. */
function closed(text) {
  let open = null;
  for (const line of text.split("\n")) {
    const fence = /^ {0,3}(`{3,}|~{3,})(.*)$/.exec(line);
    if (!fence) continue;
    if (open === null) open = fence[1];
    else if (fence[1].startsWith(open) && fence[2].trim() === "") open = null;
  }
  return open === null ? text : `${text}\n${open}`;
}
