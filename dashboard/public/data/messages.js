// What is sent of a conversation, and what it is called. Pure.

const TITLE_LENGTH = 60;
const MAX_LINE = 500; // of which a title is made
// Controls, and what turns the direction of text; what joins letters and emoji stays.
const INVISIBLE = /[\p{Cc}\u061C\u200B\u200E\u200F\u202A-\u202E\u2060-\u206F\uFEFF]/gu;

/**
 * The items for /v1/responses of a path whose last message is to be answered, or to be gone on with.
 * A question that got an error and no text is left out: whatever was wrong with it would be wrong
 * again. Where there are too many or they are too large, the newest are kept, from a question on.
 */
export function inputOf(path, { maxItems = 1000, maxBytes = 2_000_000 } = {}) {
  const said = path.filter((message, i) => !isEmpty(message) && !wasRefused(path, i));
  const items = said.map((message) => {
    return { role: message.role, content: message.prompt ?? message.text };
  });
  let first = items.length - 1;
  let bytes = sizeOf(items[first]);
  while (first > 0 && items.length - first < maxItems) {
    bytes += sizeOf(items[first - 1]);
    if (bytes > maxBytes) break;
    first -= 1;
  }
  while (first < items.length - 1 && items[first].role !== "user") first += 1;
  return { items: items.slice(Math.max(0, first)), dropped: Math.max(0, first) };
}

function isEmpty(message) {
  return message.role === "assistant" && message.text === "";
}

function wasRefused(path, i) {
  const next = path[i + 1];
  return path[i].role === "user" && next !== undefined && isEmpty(next) && next.error !== null;
}

/** At most so many bytes in JSON, where a letter may take six. */
function sizeOf(item) {
  return item === undefined ? 0 : new TextEncoder().encode(JSON.stringify(item)).length;
}

/** What a conversation that begins with this text is called: its first line, without marks. */
export function titleOf(text) {
  for (const line of text.split("\n")) {
    if (/^\s*(```|~~~)/.test(line)) continue;
    const title = cleanTitle(withoutMarks(line.slice(0, MAX_LINE)));
    if (title !== "") return title;
  }
  return "";
}

/** A title as a person wrote it: on one line, and not long. */
export function cleanTitle(text) {
  const line = text.slice(0, MAX_LINE).replace(INVISIBLE, " ").replace(/\s+/g, " ").trim();
  const letters = [...line];
  if (letters.length <= TITLE_LENGTH) return line;
  const cut = letters.slice(0, TITLE_LENGTH - 1).join("");
  const space = cut.lastIndexOf(" ");
  return `${space > TITLE_LENGTH / 2 ? cut.slice(0, space) : cut}…`;
}

/** Marks inside of words stay, and so do underscores: those are names of programs more often. */
function withoutMarks(line) {
  return line
    .replace(/^\s*(#{1,6}|>+|[-*+]|\d+[.)])\s+/, "")
    .replace(/\[([^\][]*)\]\([^)]*\)/g, "$1")
    .replace(/`+([^`]+)`+/g, "$1")
    .replace(/(^|[\s("'¿¡])(\*{1,3}|~~)(\S|\S.*?\S)\2(?=$|[\s).,:;!?"'])/g, "$1$3");
}
