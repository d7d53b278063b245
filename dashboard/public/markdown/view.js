// Markdown on the page while it is being written: only the blocks that changed are made anew. Knows
// when to draw what; blocks.js makes them, unfinished.js says what is better left for later.

import { lexer } from "/vendor/marked.js";

import { blockOf, labelCode, plainBlock } from "./blocks.js";
import { isTooDeep, settled } from "./unfinished.js";

const OPTIONS = { gfm: true, breaks: true };

export class MarkdownView {
  /** Draws into `element`, which is its own. `words` are the labels of buttons and of images. */
  constructor(element, words) {
    this._element = element;
    this._words = words;
    this._keys = [];
    this._links = "{}";
  }

  /** Shows a text. While it is `streaming`, more of it will come. */
  update(source, { streaming = false } = {}) {
    const { blocks, links } = blocksIn(streaming ? settled(source) : source);
    // A definition of a link changes the blocks before it.
    if (links !== this._links) this._keys = [];
    this._links = links;
    const nodes = this._element.childNodes;
    blocks.forEach(({ key, make }, i) => {
      if (this._keys[i] === key) return;
      // Code is coloured once it is whole, which the last block is not yet.
      const node = make(this._words, streaming && i === blocks.length - 1);
      if (nodes[i]) nodes[i].replaceWith(node);
      else this._element.append(node);
    });
    while (nodes.length > blocks.length) this._element.lastChild.remove();
    this._keys = blocks.map(({ key }) => key);
    if (streaming) this._keys.pop(); // the last block is made again, whatever comes
  }

  /** Says what buttons and code are called, in another language. */
  setWords(words) {
    this._words = words;
    for (const code of this._element.querySelectorAll(".code")) labelCode(code, words);
    for (const table of this._element.querySelectorAll(".table")) {
      table.setAttribute("aria-label", words.table);
    }
  }
}

/** The blocks of a text, each with what it is known by and what makes its node. */
function blocksIn(source) {
  if (isTooDeep(source)) return { blocks: [plain(source)], links: "{}" };
  let tokens;
  try {
    tokens = lexer(source, OPTIONS);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // nested deeper than the stack
    return { blocks: [plain(source)], links: "{}" };
  }
  const seen = tokens.filter(({ type }) => type !== "space" && type !== "def");
  return {
    blocks: seen.map((token) => ({
      key: `${token.type} ${token.raw}`,
      make: (words, streaming) => blockOf(token, tokens.links, words, streaming),
    })),
    links: JSON.stringify(tokens.links),
  };
}

function plain(source) {
  return { key: source, make: () => plainBlock(source) };
}
