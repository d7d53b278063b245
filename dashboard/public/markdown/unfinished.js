// What of a text that is still being written is better left for later, and which texts are no
// Markdown at all. Pure.

const LONGEST = 200_000; // characters that are read as Markdown
const DEEPEST = 60; // quotes or lists inside each other
const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/** Whether reading a text as Markdown would take too long, or more than the stack. */
export function isTooDeep(source) {
  if (source.length > LONGEST) return true;
  if (/[[\]()*_~`<!]{400}/.test(source)) return true;
  return /^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])){60}/m.test(source) || isIndentedDeep(source);
}

function isIndentedDeep(source) {
  return new RegExp(`^ {${4 * DEEPEST}}`, "m").test(source) && /^ *[-*+] /m.test(source);
}

/**
 * The text without what would be shown as something else a moment later: half a link, a line that
 * may become a rule or underline a heading, and with what is open closed.
 */
export function settled(source) {
  const begin = lastBlock(source);
  if (begin === null) return source; // inside code, which is shown as it is
  const before = source.slice(0, begin);
  return before + closed(withoutHalves(source.slice(begin)));
}

/** Where the last block begins; null inside a fence. */
function lastBlock(source) {
  let open = null;
  let begin = 0;
  let at = 0;
  for (const line of source.split("\n")) {
    const fence = FENCE.exec(line)?.[1];
    if (open === null && fence) open = fence;
    else if (open !== null && fence?.startsWith(open) && line.trim() === fence) {
      open = null;
      begin = at + line.length;
    } else if (open === null && line.trim() === "") begin = at + line.length;
    at += line.length + 1;
  }
  return open === null ? Math.min(begin, source.length) : null;
}

function withoutHalves(block) {
  const i = block.lastIndexOf("\n");
  const last = block.slice(i + 1);
  if (i > 0 && /^\s*(-{1,3}|={1,}|[*+]|\d{1,9}[.)]?|#{1,6}|`{1,2}|~{1,2})\s*$/.test(last)) {
    return block.slice(0, i);
  }
  // A link is shown once it leads somewhere.
  return block.replace(/!?\[[^\][\n]{0,300}(?:\](?:\([^()\n]{0,2000})?)?$/, "");
}

/** The block with code and strong text closed that are open. */
function closed(block) {
  const trimmed = block.replace(/(?<![*_`])[*_`]{1,2}$/, (mark) => (isOpening(block, mark) ? "" : mark));
  let text = trimmed;
  const withoutCode = text.replace(/`[^`\n]*`/g, "");
  if ((withoutCode.match(/`/g) ?? []).length === 1) return `${text}\``;
  for (const mark of ["**", "__", "~~"]) {
    const count = withoutCode.split(mark).length - 1;
    if (count % 2 === 1) text = `${text.trimEnd()}${mark}`;
  }
  return text;
}

/** Whether marks at the very end begin something, rather than end it. */
function isOpening(block, mark) {
  const before = block.slice(0, block.length - mark.length);
  return /(^|[\s(])$/.test(before);
}
