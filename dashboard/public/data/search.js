// Finds words in titles and messages as people type them: small or capital, with accents or without.

const YIELD_MS = 12; // of work at a time, so that the page goes on answering
const BEFORE = 40; // letters that are shown before what was found
const AFTER = 80;

/** Yields `{ conversation, message, snippet: [before, match, after] }`, newest conversations first:
 * for each, its title (`message` is null) and then its messages. */
export async function* searchIn(store, query, { signal, limit }) {
  const wanted = fold(query).text;
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
  if (!folding(text).includes(wanted)) return null; // the places cost more than the answer
  const { text: folded, at } = fold(text);
  const i = folded.indexOf(wanted);
  if (i === -1) return null;
  const [begin, end] = [at[i], at[i + wanted.length] ?? text.length];
  const from = begin - BEFORE > 0 ? begin - BEFORE : 0;
  const before = `${from > 0 ? "…" : ""}${whole(text.slice(from, begin))}`;
  const after = `${whole(text.slice(end, end + AFTER))}${end + AFTER < text.length ? "…" : ""}`;
  return [before, text.slice(begin, end), after];
}

/** A text without accents and capitals; `at` has where each of its units was in the original. */
export function fold(text) {
  let folded = "";
  const at = [];
  let i = 0;
  for (const letter of text) {
    const plain = folding(letter);
    for (let k = 0; k < plain.length; k += 1) at.push(i);
    folded += plain;
    i += letter.length;
  }
  return { text: folded, at };
}

function folding(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}

/** A text without half a letter at either end. */
function whole(text) {
  return text.replace(/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/g, "");
}
