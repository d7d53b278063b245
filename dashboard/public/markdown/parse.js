// A text read as Markdown by marked, within bounds: what would take too long to read, or more than
// the stack, stays text. Knows no HTML and no page.

import { Lexer, Tokenizer } from "/vendor/marked.js";

import { mathExtensions } from "./math.js";

const LONGEST_TEXT = 200_000; // characters
const LONGEST_RUN = 20_000; // characters of a paragraph or a cell
const MOST_MARKS = 400; // in such a run: marked's time grows as their square and more
const MOST_STOPS = 1_000; // of what else marked stops at in it, to look at all that follows
const LONGEST_GAP = 500; // spaces in it, one behind the other
const LONGEST_ADDRESS = 3_000; // characters of an address that is no link by marks
const MOST_LINES = 500; // of a list or a quote, which then is two
const DEEPEST = 20; // lists and quotes inside each other, emphasis in emphasis
const GAP = new RegExp(` {${LONGEST_GAP}}`);
const ADDRESS = new RegExp(String.raw`(?:https?:|ftp:|www\.)\S{${LONGEST_ADDRESS}}`, "i");
const QUOTE = /^ {0,3}>/;
const LIST = /^ {0,3}(?:[-*+]|\d{1,9}[.)])/;

/**
 * The tokens of a text; `links` are the definitions of what is before it. Null for a text that is to
 * be shown as it is.
 */
export function parse(source, { links = {}, streaming = false } = {}) {
  if (source.length > LONGEST_TEXT) return null;
  const tokenizer = new BoundedTokenizer();
  const extensions = mathExtensions(streaming);
  const lexer = new BoundedLexer({ gfm: true, breaks: true, tokenizer, extensions });
  Object.assign(lexer.tokens.links, links);
  try {
    return lexer.lex(source);
  } catch {
    return null; // no text may break the page
  }
}

class BoundedLexer extends Lexer {
  _depth = 0;

  inlineTokens(src, tokens = []) {
    if (this._depth >= DEEPEST || takesLong(src)) {
      tokens.push({ type: "text", raw: src, text: src });
      return tokens;
    }
    this._depth++;
    try {
      return super.inlineTokens(src, tokens);
    } finally {
      this._depth--;
    }
  }
}

class BoundedTokenizer extends Tokenizer {
  _depth = 0;

  blockquote(src) {
    return QUOTE.test(src) ? this._inside(() => super.blockquote(firstLines(src))) : undefined;
  }

  list(src) {
    return LIST.test(src) ? this._inside(() => super.list(firstLines(src))) : undefined;
  }

  /** Rows are filled up to the width of the first one: no table has more cells than characters. */
  table(src) {
    const [whole, head] = this.rules.block.table.exec(src) ?? [];
    if (whole === undefined) return undefined;
    const cells = countOf(/\n|$/g, whole.trimEnd()) * countOf(/\||$/g, head);
    return cells > whole.length ? undefined : super.table(src);
  }

  /** HTML is shown as text, and so changes nothing of what follows it. */
  tag(src) {
    const { state } = this.lexer;
    const { inLink } = state;
    const token = super.tag(src);
    state.inLink = inLink;
    state.inRawBlock = false;
    return token;
  }

  _inside(read) {
    if (this._depth >= DEEPEST) return undefined;
    this._depth++;
    try {
      return read();
    } finally {
      this._depth--;
    }
  }
}

/** Whether marked would take too long to read a paragraph or a cell. */
function takesLong(text) {
  return (
    text.length > LONGEST_RUN ||
    countOf(/[[\]*_~`<]/g, text) > MOST_MARKS ||
    countOf(/[!$&@\\]|http|ftp|www/gi, text) > MOST_STOPS ||
    GAP.test(text) ||
    ADDRESS.test(text)
  );
}

function countOf(pattern, text) {
  return text.match(pattern)?.length ?? 0;
}

function firstLines(text) {
  let end = -1;
  for (let i = 0; i < MOST_LINES; i++) {
    end = text.indexOf("\n", end + 1);
    if (end < 0) return text;
  }
  return text.slice(0, end + 1);
}
