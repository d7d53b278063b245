// Blocks of Markdown as nodes of the page. All HTML goes through DOMPurify with a short list of what
// may be there; nothing that a model wrote is HTML, a picture, or a link to anything but a site.

import DOMPurify from "/vendor/purify.js";

import { codeOf, labelCode } from "./code.js";
import { element } from "./element.js";
import { htmlOf, languageOf } from "./html.js";
import { destinationOf, names } from "./links.js";
import { nameFrame } from "./overflow.js";

const CLEAN = {
  ALLOWED_TAGS: [
    ...["p", "br", "hr", "h3", "h4", "h5", "h6", "strong", "em", "del", "code", "pre", "a"],
    ...["ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "#text"],
  ],
  ALLOWED_ATTR: ["href", "class", "start", "align"],
  ADD_URI_SAFE_ATTR: ["start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const CLASSES = new Set(["raw", "task"]);
const WITH_DIRECTION = "p, h3, h4, h5, h6, th, td, ul, ol, blockquote, table";
const RTL = /^[\p{Script=Arab}\p{Script=Hebr}\p{Script=Syrc}\p{Script=Thaa}\p{Script=Nkoo}]/u;

/** A token as a block: `key` says what is in it, `make` its node. */
export function blockOf(token, words) {
  if (token.type === "code") {
    const language = languageOf(token);
    const { text } = token;
    return { key: `code ${language}\n${text}`, make: () => framed(codeOf(text, language), words) };
  }
  const html = htmlOf(token, words);
  return { key: html, make: () => framed(cleaned(html), words) };
}

/** A text that is shown as it is. */
export function plainBlock(text) {
  return {
    key: `plain ${text}`,
    make() {
      const node = element("div", "block plain", text);
      direct(node);
      return node;
    },
  };
}

/** Writes the labels of code and tables, in a person's language. */
export function labelBlock(node, words) {
  for (const code of node.querySelectorAll(".code")) labelCode(code, words);
  for (const table of node.querySelectorAll(".table")) nameFrame(table, words.table);
}

function framed(content, words) {
  const node = element("div", "block");
  node.append(content);
  labelBlock(node, words);
  return node;
}

function cleaned(html) {
  const nodes = DOMPurify.sanitize(html, CLEAN);
  for (const pre of nodes.querySelectorAll("pre")) {
    const language = pre.querySelector("code").className.replace("language-", "");
    pre.replaceWith(codeOf(pre.textContent, language));
  }
  for (const each of nodes.querySelectorAll("p[class], li[class], a[class]")) {
    if (!CLASSES.has(each.className)) each.removeAttribute("class");
  }
  for (const link of nodes.querySelectorAll("a")) finishLink(link);
  for (const each of nodes.querySelectorAll(WITH_DIRECTION)) direct(each);
  for (const table of nodes.querySelectorAll("table")) wrapTable(table);
  return nodes;
}

/** Gives a node the direction of its first letter, as dir=auto does; that would not look into children
 * with a direction of their own, and anew at each change. */
function direct(node) {
  const letter = /\p{L}/u.exec(node.textContent)?.[0];
  if (letter) node.dir = RTL.test(letter) ? "rtl" : "ltr";
}

function wrapTable(table) {
  const frame = element("div", "table scrolls");
  table.replaceWith(frame);
  frame.append(table);
}

/** A link opens beside the page and tells nobody about it; where its text does not say where it
 * leads, that is shown. */
function finishLink(link) {
  const destination = destinationOf(link.getAttribute("href"));
  if (destination === null) {
    link.replaceWith(...link.childNodes);
    return;
  }
  const { href, place } = destination;
  link.setAttribute("href", href);
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = href;
  if (names(link.textContent, place)) return;
  // Each in a direction of its own: no text turns the place around.
  const text = element("bdi");
  text.append(...link.childNodes);
  const host = element("bdi", "host", `(${place})`);
  host.dir = "ltr";
  link.append(text, " ", host);
}
