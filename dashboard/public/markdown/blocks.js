// Blocks of Markdown as nodes of the page. All HTML goes through DOMPurify with a short list of what
// may be there; nothing that a model wrote is HTML, a picture, or a link to anything but a site.

import { parser, Renderer } from "/vendor/marked.js";
import DOMPurify from "/vendor/purify.js";

import { copyText } from "../shared/copy.js";
import { highlighted } from "./highlight.js";

const CLEAN = {
  ALLOWED_TAGS: [
    ...["p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "a"],
    ...["ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td"],
  ],
  ALLOWED_ATTR: ["href", "class", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  KEEP_CONTENT: true,
  RETURN_DOM_FRAGMENT: true,
};
const WITH_DIRECTION = "p, h3, h4, h5, h6, li, blockquote, th, td";
const SAID_MS = 2_000;

/** The node of a token of marked's. `links` are the definitions of the whole text. */
export function blockOf(token, links, words, streaming) {
  const node = document.createElement("div");
  node.className = "block";
  if (token.type === "code") {
    node.append(codeOf(token.text, languageOf(token), words, streaming));
    return node;
  }
  node.append(DOMPurify.sanitize(htmlOf(token, links, words), CLEAN));
  for (const pre of node.querySelectorAll("pre")) {
    const language = /^language-(\S+)$/.exec(pre.firstChild?.className ?? "")?.[1] ?? "";
    pre.replaceWith(codeOf(pre.textContent, language, words, streaming));
  }
  for (const element of node.querySelectorAll("[class]:not(.code, .code *)")) {
    element.removeAttribute("class");
  }
  for (const table of node.querySelectorAll("table")) wrapTable(table, words);
  for (const link of node.querySelectorAll("a")) finishLink(link);
  for (const each of node.querySelectorAll(WITH_DIRECTION)) each.dir = "auto";
  return node;
}

/** A text that is shown as it is. */
export function plainBlock(text) {
  const node = document.createElement("div");
  node.className = "block plain";
  node.dir = "auto";
  node.textContent = text;
  return node;
}

function htmlOf(token, links, words) {
  const tokens = [token];
  tokens.links = links;
  const renderer = new Renderer();
  // The page's own headings are of the first two levels.
  renderer.heading = function ({ tokens, depth }) {
    const level = Math.min(6, depth + 2);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
  };
  // HTML in a text is shown as the text that it is; a break in a cell has no other way to be said.
  renderer.html = ({ text }) => (/^<br\s*\/?>\s*$/i.test(text) ? "<br>" : escaped(text));
  // A picture would be fetched from wherever it is.
  renderer.image = ({ href, text }) => {
    const label = escaped(words.image(text));
    return /^https?:\/\//i.test(href) ? `<a href="${escaped(href)}">${label}</a>` : label;
  };
  renderer.checkbox = ({ checked }) => (checked ? "☑ " : "☐ ");
  renderer.code = ({ text, lang }) => {
    const language = languageOf({ lang });
    return `<pre><code class="language-${escaped(language)}">${escaped(text)}</code></pre>\n`;
  };
  return parser(tokens, { renderer, gfm: true, breaks: true });
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}

function languageOf({ lang }) {
  return /^[\w+#.-]{1,30}/.exec(lang ?? "")?.[0].toLowerCase() ?? "";
}

// --- code -----------------------------------------------------------------------------------------

function codeOf(text, language, words, streaming) {
  const root = element("div", "code");
  root.dataset.language = language;
  const head = element("div", "head");
  const label = element("span", "language");
  const button = element("button", "quiet small copy");
  button.type = "button";
  button.addEventListener("click", () => copy(root, button, text));
  head.append(label, button);
  const pre = element("pre");
  pre.tabIndex = 0; // what is too wide is moved by the arrow keys
  pre.dir = "ltr";
  pre.setAttribute("role", "group");
  const code = element("code");
  code.append(streaming ? text : highlighted(text, language));
  pre.append(code);
  root.append(head, pre);
  labelCode(root, words);
  return root;
}

/** Writes the label and the button of a block of code. */
export function labelCode(root, words) {
  const { language } = root.dataset;
  root.words = words;
  root.querySelector(".language").textContent = language;
  root.querySelector(".copy").textContent = words.copy;
  root.querySelector("pre").setAttribute("aria-label", words.code(language));
}

async function copy(root, button, text) {
  const worked = await copyText(text);
  button.textContent = worked ? root.words.copied : root.words.copyFailed;
  setTimeout(() => (button.textContent = root.words.copy), SAID_MS);
}

// --- tables and links -----------------------------------------------------------------------------

function wrapTable(table, words) {
  const frame = element("div", "table scrolls");
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", words.table);
  table.replaceWith(frame);
  frame.append(table);
}

/** A link opens beside the page and tells nobody about it; where its text does not say where it
 * leads, that is shown. */
function finishLink(link) {
  const url = urlOf(link.getAttribute("href"));
  if (url === null) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = url.href;
  const place = url.protocol === "mailto:" ? url.pathname : url.host;
  if (placeIn(link.textContent) === place) return;
  link.append(element("span", "host", ` (${place})`));
}

function urlOf(href) {
  try {
    return new URL(href);
  } catch {
    return null;
  }
}

/** The host or the address that a text names, if it is nothing else. */
function placeIn(text) {
  const said = text.trim();
  if (/\s/.test(said)) return null;
  const url = urlOf(said.includes("://") ? said : `https://${said}`);
  if (url === null) return null;
  return url.username && !said.includes("://") ? said : url.host;
}

function element(name, className = "", text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}
