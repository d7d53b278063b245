// Blocks of code: their language, a button that copies them, their colours.

import { copyText } from "../shared/copy.js";
import { element } from "./element.js";
import { highlighted } from "./highlight.js";
import { takeChildren } from "./morph.js";
import { nameFrame } from "./overflow.js";

const SAID_MS = 2_000;
const OFTEN = 4_000; // characters: code below is coloured anew with each line

const coloured = new WeakMap(); // elements of code, and the text that is in colours

export function codeOf(text, language) {
  const root = element("div", "code");
  root.dataset.language = language;
  const head = element("div", "head");
  const button = element("button", "quiet small copy");
  button.type = "button";
  const said = element("span", "unseen said");
  said.setAttribute("role", "status");
  head.append(element("span", "language", language), said, button);
  const pre = element("pre", "scrolls");
  pre.dir = "ltr";
  pre.append(element("code", "", text));
  root.append(head, pre);
  return root;
}

/** Writes what is said of a block of code, in a person's language. */
export function labelCode(root, words) {
  root.querySelector(".copy").textContent = words.copy;
  nameFrame(root.querySelector("pre"), words.code(root.dataset.language));
}

/** Colours a block of code. One that is `open` will grow, and is coloured from time to time. */
export function colour(root, open) {
  const code = root.querySelector("code");
  const text = code.textContent;
  const done = coloured.get(code) ?? "";
  const before = text.startsWith(done) ? done : "";
  if (text === before || (open && !isDue(text, before))) return;
  const nodes = highlighted(text, root.dataset.language);
  if (nodes) takeChildren(code, nodes);
  else if (code.childNodes.length > 1) code.textContent = text; // it has grown too long
  coloured.set(code, text);
}

/** Whether enough lines came: all the work stays in proportion to the text. */
function isDue(text, before) {
  if (!text.slice(before.length).includes("\n")) return false;
  return text.length < OFTEN || text.length > 1.125 * before.length;
}

/** Copies the code whose button it is, and says whether that worked. */
export async function copyCode(button, words) {
  const root = button.closest(".code");
  const worked = await copyText(root.querySelector("code").textContent);
  const said = root.querySelector(".said");
  said.textContent = button.textContent = worked ? words.copied : words.copyFailed;
  setTimeout(() => {
    said.textContent = "";
    button.textContent = words.copy;
  }, SAID_MS);
}
