// Documents in a number of tokens, and as a part of a message; knows no file, and of the model only
// how many tokens a text is.

import { firstUnits } from "./clean.js";

const MAX_CUTS = 4; // cuts that are counted, behind the first count of a document
const MARGINS = [0.98, 0.95, 0.85]; // of what seems to fit, as one cut after the other does not
const GOOD = 0.85; // of its share, which is enough for a cut
const UNITS_PER_TOKEN = 8; // a text that has more of them is not counted whole
const UNITS_PER_TAG_TOKEN = 2.5; // of what is written around a document, about
const MAX_COUNTED = 1_000_000; // units of text in one request
const NEAR = 0.08; // of the text, which a cut gives up to be where something ends
const NEAR_UNITS = 32; // at least
const BETWEEN = "\n\n";

/**
 * What of each document goes into the message, in their order: `{ id, name, text, tokens, pages:
 * [used, all], cut, share }`. `tokens` counts also what documentsPrompt writes around the text, and
 * all of them together are at most `budget`; `share` is how much is used, from 0 to 1. A document
 * that needs less than an equal part leaves the rest to longer ones. `countTokens(text)` gives a
 * promise, and is called at most five times for a document.
 */
export async function fitDocuments(documents, budget, countTokens) {
  const wholes = documents.map(wholeOf);
  const count = (whole, part) => countTokens(`${block(fittedOf(whole, part))}${BETWEEN}`);
  const needs = await Promise.all(wholes.map((whole) => measure(whole, budget, count)));
  const fitted = new Array(documents.length);
  let left = budget;
  let waiting = documents.length;
  const order = [...needs.keys()].sort((a, b) => needs[a].tokens - needs[b].tokens);
  for (const i of order) {
    const limit = Math.floor(left / waiting--);
    const used = await usedOf(wholes[i], needs[i], limit, count);
    left -= used.tokens;
    fitted[i] = { ...fittedOf(wholes[i], used.text), tokens: used.tokens };
  }
  return fitted;
}

/**
 * The message for the model: the documents, then the question. It comes last because small models
 * forget what they read before a long text.
 */
export function documentsPrompt(fitted, question) {
  return [...fitted.filter(({ text }) => text !== "").map(block), question].join(BETWEEN);
}

function block(fitted) {
  const tag = tagFor(fitted.text);
  const name = fitted.name.replace(/\s+/g, " ").replace(/["<>]/g, "'");
  const part = fitted.cut ? ` part="${partOf(fitted)}"` : "";
  return `<${tag} name="${name}"${part}>\n${fitted.text}\n</${tag}>`;
}

/**
 * A tag that the text does not have, so that nothing in it ends the document or begins another one.
 * It has a number only where it must: small models read the plain word better.
 */
function tagFor(text) {
  const taken = new Set();
  for (const [, number] of text.matchAll(/<[\s/]*document(?:-(\d+))?/gi)) taken.add(number ?? "");
  if (taken.size === 0) return "document";
  let number = 2;
  while (taken.has(String(number))) number++;
  return `document-${number}`;
}

function partOf({ pages: [used, all], share }) {
  if (all > 1) return `pages 1 to ${used} of ${all}`;
  return `the first ${Math.max(1, Math.floor(share * 100))} percent`;
}

/** All pages as one text. Where there are several, each begins with its number. */
function wholeOf(document) {
  let text = "";
  const starts = [];
  for (const [i, page] of document.pages.entries()) {
    starts.push(text.length);
    if (document.pages.length === 1) text = page;
    else if (page !== "") text += `[page ${i + 1}]\n${page}\n\n`;
  }
  return { document, text: text.trimEnd(), starts };
}

function fittedOf({ document, text: whole, starts }, text) {
  const { id, name, pages } = document;
  const all = document.pageCount ?? pages.length;
  const complete = text.length === whole.length;
  const used = complete ? pages.length : starts.filter((start) => start < text.length).length;
  const share = whole === "" ? 1 : (text.length / whole.length) * (pages.length / all);
  return { id, name, text, pages: [used, all], cut: !complete || document.cut === true, share };
}

/**
 * `{ text, counted, tokens }`: a start of the document, which is all of it unless it is far too
 * long, how many tokens that has, and so about how many the whole document.
 */
async function measure(whole, budget, count) {
  const most = Math.min(Math.max(budget, 0) * UNITS_PER_TOKEN, MAX_COUNTED);
  const text = cutBack(whole, most);
  if (text === "") return { text, counted: 0, tokens: 0 };
  const counted = await count(whole, text);
  return { text, counted, tokens: counted * (whole.text.length / text.length) };
}

/** As much of a measured document as `limit` tokens hold, as `{ text, tokens }`. */
async function usedOf(whole, { text, counted }, limit, count) {
  if (counted <= limit) return { text, tokens: counted };
  const around = block(fittedOf(whole, "")).length / UNITS_PER_TAG_TOKEN;
  let fits = { text: "", tokens: 0 };
  if (limit <= around) return fits;
  let over = { units: text.length, tokens: counted };
  let failures = 0;
  for (let cuts = 1; cuts <= MAX_CUTS; cuts++) {
    const under = fits.text === "" ? { units: 0, tokens: around } : at(fits);
    const last = cuts === MAX_CUTS && under.units === 0;
    const units = last ? (limit - around) / 4 : between(under, over, limit * MARGINS[failures]);
    const start = cutBack(whole, Math.floor(units));
    if (start.length <= under.units) break;
    const tokens = await count(whole, start);
    if (tokens > limit) {
      over = { units: start.length, tokens };
      failures = Math.min(failures + 1, MARGINS.length - 1);
    } else {
      fits = { text: start, tokens };
      if (tokens >= limit * GOOD) break;
    }
  }
  return fits;
}

const at = ({ text, tokens }) => ({ units: text.length, tokens });

/** Where a text of `tokens` tokens would end, were they spread evenly between two known ends. */
function between(under, over, tokens) {
  const slope = (over.units - under.units) / (over.tokens - under.tokens);
  return under.units + (tokens - under.tokens) * slope;
}

/** At most so many units of the text, up to the end of a page, paragraph, line or word. */
function cutBack({ text, starts }, units) {
  if (units >= text.length) return text;
  if (units <= 0) return "";
  const from = units - Math.max(units * NEAR, NEAR_UNITS);
  const ends = [
    starts.findLast((start) => start <= units),
    text.lastIndexOf("\n\n", units),
    text.lastIndexOf("\n", units),
    text.lastIndexOf(" ", units),
  ];
  const end = ends.find((end) => end > Math.max(from, 0));
  return (end === undefined ? firstUnits(text, units) : text.slice(0, end)).trimEnd();
}
