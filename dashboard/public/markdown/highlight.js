// Code in colours; knows the library, and that what it gives is HTML like any other.

import hljs from "/vendor/highlight.js";
import DOMPurify from "/vendor/purify.js";

const LONGEST = 20_000; // characters
const LONG_LINE = /.{1000}/; // expressions of some languages take the square of a line
const CLEAN = {
  ALLOWED_TAGS: ["span"],
  ALLOWED_ATTR: ["class"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** A text as nodes in colours; null where its language is not known, or it or a line is too long. */
export function highlighted(text, language) {
  if (text.length > LONGEST || LONG_LINE.test(text) || !hljs.getLanguage(language)) return null;
  const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
  const nodes = DOMPurify.sanitize(value, CLEAN);
  return nodes.textContent === text ? nodes : null; // the text counts, not the colours
}
