// Code in colours; knows the library, and that what it gives is HTML like any other.

import hljs from "/vendor/highlight.js";
import DOMPurify from "/vendor/purify.js";

const LONGEST = 50_000; // characters
const CLEAN = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };

/** A text as nodes, in colours where its language is known. */
export function highlighted(text, language) {
  if (text.length > LONGEST || !hljs.getLanguage(language)) return document.createTextNode(text);
  const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
  const nodes = DOMPurify.sanitize(value, CLEAN);
  // The library has changed the text or the cleaning has: the text counts.
  return nodes.textContent === text ? nodes : document.createTextNode(text);
}
