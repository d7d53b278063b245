// Half of what is within a paragraph: links that lead nowhere yet are their words, and what is open
// is closed. Pure.

const FORMULAS = [
  ["$$", "$$"],
  ["\\(", "\\)"],
  ["\\[", "\\]"],
];
const ADDRESS = /https?:\/\/[^\s<>*~)\]]*/y;
const HALF_TAG = /^<[^\s<>]{0,300}$/;
const HALF_REFERENCE = /^&#?\w{0,8}$/;
const LONGEST_LABEL = 200; // characters of a link's words that are waited for

/** The words without what is half, and with what is open closed. */
export function settledInline(text) {
  return new Scan(text).run();
}

class Scan {
  constructor(text) {
    this._text = text;
    this._at = 0;
    this._marks = []; // of emphasis, open: { at, length, letter }
    this._brackets = []; // where they are, open
  }

  run() {
    while (this._at < this._text.length) {
      const settled = this._step();
      if (settled !== undefined) return settled;
    }
    return this._closed(this._text);
  }

  /** Goes on behind what is next; a string where nothing can come behind. */
  _step() {
    const { _text: text, _at: at } = this;
    const formula = FORMULAS.find(([begin]) => text.startsWith(begin, at));
    if (formula) return this._formula(formula);
    switch (text[at]) {
      case "\\":
        if (at + 1 === text.length) return this._closed(text.slice(0, at));
        this._at += 2;
        return undefined;
      case "`":
        return this._code();
      case "<":
        return this._half(HALF_TAG);
      case "&":
        return this._half(HALF_REFERENCE);
      case "!":
        return this._half(/^!$/);
      case "[":
        this._brackets.push(text[at - 1] === "!" ? at - 1 : at);
        this._at++;
        return undefined;
      case "]":
        return this._bracket();
      case "*":
      case "_":
      case "~":
        return this._emphasis();
      default:
        ADDRESS.lastIndex = at;
        this._at += text[at] === "h" ? (ADDRESS.exec(text)?.[0].length ?? 1) : 1;
        return undefined;
    }
  }

  _half(pattern) {
    if (pattern.test(this._text.slice(this._at))) return this._closed(this._text.slice(0, this._at));
    this._at++;
    return undefined;
  }

  _formula([begin, end]) {
    const close = this._text.indexOf(end, this._at + begin.length);
    if (close < 0) return this._text;
    this._at = close + end.length;
    return undefined;
  }

  _code() {
    const run = this._run();
    const begin = this._at + run.length;
    if (begin === this._text.length) return this._closed(this._text.slice(0, this._at));
    const rest = this._text.slice(begin);
    const close = new RegExp(`(?<!\`)${run}(?!\`)`).exec(rest);
    if (close) {
      this._at = begin + close.index + run.length;
      return undefined;
    }
    return this._closed(`${rest.endsWith("`") ? this._text.replace(/(?<!`)`+$/, "") : this._text}${run}`);
  }

  /** A bracket that closes: its words are shown as words until it is known where they lead. */
  _bracket() {
    const { _text: text } = this;
    const open = this._brackets.pop();
    this._at++;
    if (open === undefined) return undefined;
    const next = text[this._at];
    if (next === undefined) return this._closed(text.slice(0, this._brackets[0] ?? open));
    if (next !== "(" && next !== "[") return undefined;
    const end = endOfDestination(text, this._at);
    if (end < 0) {
      if (this._brackets.length > 0) return this._closed(text.slice(0, this._brackets[0]));
      if (text[open] === "!") return this._closed(text.slice(0, open));
      this._marks = this._marks.filter(({ at }) => at < open);
      const words = settledInline(text.slice(open + 1, this._at - 1));
      return this._closed(text.slice(0, open) + words);
    }
    this._at = end;
    return undefined;
  }

  _emphasis() {
    const { _text: text, _at: at } = this;
    const run = this._run();
    const letter = run[0];
    const [before, after] = [text[at - 1] ?? " ", text[at + run.length]];
    if (after === undefined) return this._closed(text.slice(0, at));
    this._at += run.length;
    if (letter === "~" && run.length !== 2) return undefined;
    let length = run.length;
    if (/\S/.test(before) && !(letter === "_" && isWord(after))) length = this._close(letter, length);
    if (length > 0 && /\S/.test(after) && !isWord(before)) {
      this._marks.push({ at, length: Math.min(length, 3), letter });
    }
    return undefined;
  }

  /** Closes marks with so many letters; how many are left. */
  _close(letter, length) {
    while (length > 0 && this._marks.at(-1)?.letter === letter) {
      const mark = this._marks.at(-1);
      const used = Math.min(length, mark.length);
      mark.length -= used;
      length -= used;
      if (mark.length === 0) this._marks.pop();
    }
    return length;
  }

  _run() {
    const letter = this._text[this._at];
    let end = this._at;
    while (this._text[end] === letter) end++;
    return this._text.slice(this._at, end);
  }

  /** A beginning of the text without the words of a link that are half, and with what is open in it
   * closed. */
  _closed(beginning) {
    const label = beginning.slice(this._brackets[0] ?? beginning.length);
    const waits = label.length <= LONGEST_LABEL && !label.includes("\n");
    const text = waits ? beginning.slice(0, beginning.length - label.length) : beginning;
    const open = this._marks.filter(({ at }) => at < text.length);
    let words = open.length > 0 ? text.trimEnd() : text;
    while (open.length > 0 && open.at(-1).at + open.at(-1).length >= words.length) {
      words = words.slice(0, open.pop().at).trimEnd(); // nothing is in it yet
    }
    return words + open.reverse().map(({ letter, length }) => letter.repeat(length)).join("");
  }
}

function isWord(letter) {
  return /[\p{L}\p{N}]/u.test(letter);
}

/** Where the (…) or […] ends that begins here; -1 while it does not. */
function endOfDestination(text, begin) {
  const [open, close] = text[begin] === "(" ? "()" : "[]";
  let depth = 0;
  for (let i = begin; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === open) depth++;
    else if (text[i] === close && --depth === 0) return i + 1;
    else if (text[i] === "\n") return begin + 1; // it is none
  }
  return -1;
}
