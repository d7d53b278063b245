// Finds words in titles and messages as people type them: small or capital, with accents or without.

const YIELD_MS = 12; // of work at a time, so that the page goes on answering
const BEFORE = 40; // letters that are shown before what was found
const AFTER = 80;

/** Yields `{ conversation, message, snippet: [before, match, after] }`, newest conversations first:
 * for each, its title (`message` is null) and then its messages. */
export async function* searchIn(store, query, { signal, limit }) {
  const wanted = fold(query);
  if (wanted === "") return;
  let left = limit;
  let began = performance.now();
  for (const conversation of await store.conversations()) {
    for (const message of [null, ...(await store.messages(conversation.id))]) {
      signal?.throwIfAborted();
      const snippet = find(message === null ? conversation.title : message.text, wanted);
      if (snippet) {
        yield { conversation, message, snippet };
        left -= 1;
        if (left === 0) return;
      }
      if (performance.now() - began > YIELD_MS) {
        await new Promise((resolve) => setTimeout(resolve));
        began = performance.now();
      }
    }
  }
}

/** The first place of `wanted`, which is folded, in a text; null where it is not. */
export function find(text, wanted) {
  const at = fold(text).indexOf(wanted);
  if (at === -1) return null;
  const [begin, end] = placeOf(text, at, at + wanted.length);
  const from = begin - BEFORE > 0 ? begin - BEFORE : 0;
  const before = `${from > 0 ? "…" : ""}${whole(text.slice(from, begin))}`;
  const after = `${whole(text.slice(end, end + AFTER))}${end + AFTER < text.length ? "…" : ""}`;
  return [before, text.slice(begin, end), after];
}

/** A text without accents and capitals. */
export function fold(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replaceAll("ς", "σ");
}

/** Where in a text the letters begin and end that are its folded units from `from` to `to`. */
function placeOf(text, from, to) {
  let begin = 0;
  let units = 0;
  let place = 0;
  while (place < text.length) {
    const plain = text.charCodeAt(place) < 0x80;
    const letter = plain ? null : String.fromCodePoint(text.codePointAt(place));
    const size = plain ? 1 : fold(letter).length;
    if (size > 0 && units >= to) return [begin, place];
    if (units <= from && from < units + size) begin = place;
    units += size;
    place += plain ? 1 : letter.length;
  }
  return [begin, text.length];
}

/** A text without half a letter at either end. */
function whole(text) {
  return text.replace(/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/g, "");
}
