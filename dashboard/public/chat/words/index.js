// The words of the chat page by language, and what an error says in one.

import { EN } from "./en.js";
import { ES } from "./es.js";

export const WORDS = { en: EN, es: ES };

/** What an error says in a language; null where there are only its own words. */
export function errorText(words, code) {
  const known = words.errors;
  return code !== null && Object.hasOwn(known, code) ? known[code] : null;
}

export function adviceText(words, code) {
  return code !== null && Object.hasOwn(words.advice, code) ? words.advice[code] : "";
}
