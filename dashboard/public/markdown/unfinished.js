// What of a text that is still being written is better left for later: what would be shown as
// something else a moment later. Pure.

import { settledInline } from "./unfinished-inline.js";

const LONGEST = 20_000; // characters of a block that are looked through
const BEFORE = String.raw`^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*`; // quotes and items around a line
const FENCE = new RegExp(`${BEFORE}(\`{3,}(?=[^\`]*$)|~{3,})`);
const ITEM = new RegExp(String.raw`^[ \t>]*(?:[-*+]|\d{1,9}[.)]|#{1,6})[ \t]+`);
const DELIMITER = /^[|:\- \t]*$/;
/** A line that may become a rule, an item, a heading, an underline, a fence, a row or a definition. */
const HALF_LINE =
  /^(?:[-*_=+]+|[-*_](?:[-*_ ]*[-*_])?|#{1,6}|\d{1,3}[.)]?|`+|~+|\||\[[^\]\n]{1,200}\]:.*|[-*+] +\[[ xX]\])[ \t]*$/;

/** The text without what is half, and with what is open closed. */
export function settled(source) {
  const { begin, fence } = lastBlock(source);
  if (source.length - begin > LONGEST) return source;
  const before = source.slice(0, begin);
  if (fence) return before + withoutHalfFence(source.slice(begin), fence);
  const lines = withoutHalfTable(withoutHalfLine(source.slice(begin)).split("\n"));
  const at = lines.findLastIndex((line) => ITEM.test(line));
  const head = lines.slice(0, Math.max(at, 0));
  const last = lines.slice(Math.max(at, 0)).join("\n");
  const marker = inlineBegin(last);
  const text = last.slice(0, marker) + settledInline(last.slice(marker));
  return before + [...head, text].join("\n");
}

/** Where the last block begins, and the fence that is open in it. */
function lastBlock(source) {
  let fence = "";
  let begin = 0;
  let at = 0;
  for (const line of source.split("\n")) {
    if (at === source.length) break; // a line that has not begun
    const run = FENCE.exec(line)?.[1] ?? "";
    if (fence === "" && run) {
      fence = run;
      begin = at;
    } else if (fence && run.startsWith(fence) && line.replace(/[> \t]/g, "") === run) {
      fence = "";
      begin = at + line.length;
    } else if (fence === "" && line.trim() === "") begin = at + line.length;
    at += line.length + 1;
  }
  return { begin: Math.min(begin, source.length), fence };
}

/** A block of code without its first line while that is half, or a last line that may end it. */
function withoutHalfFence(block, fence) {
  const at = block.lastIndexOf("\n");
  if (at < 0) return "";
  const last = block.slice(at + 1).trim();
  return last !== "" && last === fence[0].repeat(last.length) ? block.slice(0, at) : block;
}

function withoutHalfLine(block) {
  const at = block.lastIndexOf("\n") + 1;
  const last = block.slice(at).replace(/^[ \t>]*/, "");
  return HALF_LINE.test(last) ? block.slice(0, at) : block;
}

/** The lines without the first two of a table while it is not sure that they are. */
function withoutHalfTable(lines) {
  const ended = lines.at(-1).trim() === "";
  const end = ended ? lines.length - 1 : lines.length;
  let begin = end;
  while (begin > 0 && /^[ \t>]*\|/.test(lines[begin - 1])) begin--;
  const half = end - begin === 1 || (end - begin === 2 && !ended && DELIMITER.test(lines[end - 1]));
  return half ? [...lines.slice(0, begin), ""] : lines;
}

/** Where the words begin behind an item's marker, or in the last cell of a row. */
function inlineBegin(text) {
  const line = text.lastIndexOf("\n") + 1;
  if (/^[ \t>]*\|/.test(text.slice(line))) return text.lastIndexOf("|") + 1;
  return ITEM.exec(text)?.[0].length ?? 0;
}
