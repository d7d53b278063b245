// Text and names without what a reader cannot see or what turns their order around; knows no file.

const MAX_NAME = 120;
const NAME_END = 20; // of a cut name, so that its extension stays
const TERMINAL_COLOURS = /\x1b\[[0-9;?]*[ -/]*[@-~]/g; // a log has them
// The controls but tab and newline; what overrides or isolates a direction; byte order marks; the
// invisible copies of ASCII that only a model reads; halves of surrogate pairs.
const UNSEEN =
  /[\0-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\u{e0000}-\u{e007f}\p{Surrogate}]/gu;

/** The text with each end of line as one newline. */
export function cleanText(text) {
  return text
    .replace(/\r\n?|[\v\f\x85\u2028\u2029]/g, "\n")
    .replace(TERMINAL_COLOURS, "")
    .replace(UNSEEN, "");
}

/** A name of one line, to be shown; "?" where nothing of it is left. */
export function cleanName(name) {
  const line = cleanText(name).replace(/\s+/g, " ").trim();
  const characters = [...line];
  if (characters.length <= MAX_NAME) return line || "?";
  const start = characters.slice(0, MAX_NAME - NAME_END - 1);
  return [...start, "…", ...characters.slice(-NAME_END)].join("");
}

/** At most the first `length` units of the text, and no half of a surrogate pair at its end. */
export function firstUnits(text, length) {
  if (length >= text.length) return text;
  const high = text.charCodeAt(length - 1);
  return text.slice(0, high >= 0xd800 && high <= 0xdbff ? length - 1 : length);
}
