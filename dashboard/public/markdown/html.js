// Tokens of marked as HTML, which is still to be cleaned. HTML in a text is the text that it is, but
// for a line break; a picture is its description, with a link to it.

import { parser, Renderer } from "/vendor/marked.js";

/** The HTML of a token. `words.image` says what stands for a picture. */
export function htmlOf(token, words) {
  return parser([token], { renderer: new Writer(words) });
}

/** The name of a code's language, in few and plain letters; empty where there is none. */
export function languageOf(token) {
  return /^[\w+#.-]{1,30}/.exec(token.lang ?? "")?.[0].toLowerCase() ?? "";
}

class Writer extends Renderer {
  _inLink = false;

  constructor(words) {
    super();
    this._words = words;
  }

  /** The page's own headings are of the first two levels. */
  heading({ tokens, depth }) {
    const level = Math.min(6, depth + 2);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
  }

  code(token) {
    const name = `language-${languageOf(token)}`;
    return `<pre><code class="${literal(name)}">${literal(token.text)}</code></pre>`;
  }

  codespan({ text }) {
    return `<code>${literal(text)}</code>`;
  }

  html({ text, block }) {
    if (block) return `<p class="raw">${literal(text.trimEnd())}</p>`;
    // A cell of a table has no other way to begin a line.
    return /^<br\s*\/?>$/i.test(text) ? "<br>" : literal(text);
  }

  text(token) {
    if (token.tokens) return this.parser.parseInline(token.tokens);
    const text = token.type === "escape" ? literal(token.text) : resolved(token.text);
    return text.replace(/\n/g, "<br>");
  }

  listitem({ task, tokens }) {
    return `<li${task ? ' class="task"' : ""}>${this.parser.parse(tokens)}</li>`;
  }

  checkbox({ checked }) {
    return checked ? "☑ " : "☐ ";
  }

  link({ href, text, tokens, autolink }) {
    const outer = this._inLink;
    this._inLink = true;
    const label = autolink ? literal(text) : this.parser.parseInline(tokens);
    this._inLink = outer;
    return `<a href="${autolink ? literal(href) : resolved(href)}">${label}</a>`;
  }

  image({ href, text, tokens }) {
    const alt = tokens ? this.parser.parseInline(tokens, this.parser.textRenderer) : text;
    const label = resolved(this._words.image(alt));
    return this._inLink ? label : `<a href="${resolved(href)}">${label}</a>`;
  }
}

/** HTML for exactly this text. */
function literal(text) {
  return text.replace(/[&<>"']/g, reference);
}

/** HTML for this text, where the character references in it count. */
function resolved(text) {
  return text.replace(/[<>"']|&(?!#?\w+;)/g, reference);
}

function reference(letter) {
  return `&#${letter.charCodeAt(0)};`;
}
