// Markdown on the page while it is being written: only what changed is made anew. Knows when to draw
// what; parse.js reads it, blocks.js makes nodes, unfinished.js says what is better left for later.

import { blockOf, labelBlock, plainBlock } from "./blocks.js";
import { colour, copyCode } from "./code.js";
import { takeChildren } from "./morph.js";
import { Overflow } from "./overflow.js";
import { parse } from "./parse.js";
import { settled } from "./unfinished.js";

const NOTHING = { text: "", count: 0, links: {}, known: "{}" };

export class MarkdownView {
  /** Draws into `element`, which is its own. `words` are the labels of buttons and of images. */
  constructor(element, words) {
    this._element = element;
    this._words = words;
    this._overflow = new Overflow();
    this._keys = []; // what is in each block
    this._done = NOTHING; // what is read no more while more comes, and how many blocks it has
    this._source = "";
    this._streaming = false;
    element.addEventListener("click", ({ target }) => {
      const button = target.closest(".code .copy");
      if (button) copyCode(button, this._words);
    });
  }

  /** Shows a text. While it is `streaming`, more of it will come. */
  update(source, { streaming = false } = {}) {
    this._source = source;
    this._streaming = streaming;
    const text = source.replace(/\r\n?/g, "\n");
    if (!streaming || !text.startsWith(this._done.text)) this._done = NOTHING;
    let tokens = this._parse(text);
    // A definition of a link changes the blocks before it.
    if (tokens && this._done.count > 0 && JSON.stringify(tokens.links) !== this._done.known) {
      this._done = NOTHING;
      tokens = this._parse(text);
    }
    const { count } = this._done;
    const blocks = tokens
      ? tokens.filter(isSeen).map((token) => blockOf(token, this._words))
      : [plainBlock(text.slice(this._done.text.length))];
    blocks.forEach((block, i) => this._draw(count + i, block));
    this._cut(count + blocks.length);
    this._colour(count);
    if (streaming && tokens) this._keepDone(text, tokens);
  }

  /** Says what buttons, code and images are called, in another language. */
  setWords(words) {
    if (words === this._words) return;
    this._words = words;
    this._done = NOTHING;
    this.update(this._source, { streaming: this._streaming });
    labelBlock(this._element, words);
  }

  /** The tokens behind what is done. */
  _parse(text) {
    const tail = text.slice(this._done.text.length);
    const { links } = this._done;
    return parse(this._streaming ? settled(tail) : tail, { links, streaming: this._streaming });
  }

  _draw(i, { key, make }) {
    if (this._keys[i] === key) return;
    this._keys[i] = key;
    const present = this._element.childNodes[i];
    const node = make();
    if (!present) this._element.append(node);
    else if (present.className === node.className) takeChildren(present, node);
    else present.replaceWith(node);
    this._overflow.watch(this._element.childNodes[i]);
  }

  _cut(count) {
    this._keys.length = count;
    while (this._element.childNodes.length > count) this._element.lastChild.remove();
  }

  /** Colours the code of the blocks from a number on. */
  _colour(from) {
    const last = this._element.lastChild;
    for (const node of [...this._element.childNodes].slice(from)) {
      for (const code of node.querySelectorAll(".code")) {
        colour(code, this._streaming && node === last && isAtEnd(code, node));
      }
    }
  }

  /** What comes rarely changes a block that has two others and an empty line behind it; where it
   * does, the whole text is read at the end. */
  _keepDone(text, tokens) {
    const tail = text.slice(this._done.text.length);
    const most = tokens.filter(isSeen).length - 2;
    let raw = "";
    let seen = 0;
    let done = null;
    tokens.forEach((token, i) => {
      if (isSeen(token)) {
        if (seen > 0 && seen <= most && tokens[i - 1].type === "space") done = { raw, seen };
        seen++;
      }
      raw += token.raw;
    });
    if (done === null || !tail.startsWith(done.raw)) return;
    this._done = {
      text: this._done.text + done.raw,
      count: this._done.count + done.seen,
      links: tokens.links,
      known: JSON.stringify(tokens.links),
    };
  }
}

function isSeen({ type }) {
  return type !== "space" && type !== "def";
}

function isAtEnd(node, root) {
  for (let each = node; each !== root; each = each.parentElement) {
    if (each.nextElementSibling) return false;
  }
  return true;
}
