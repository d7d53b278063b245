// A file that was dropped in, as text: whether it is one, within which limits, under which name.
// Knows no model.

import { extensionOf, isPdf, textOf } from "./bytes.js";
import { cleanName, cleanText, firstUnits } from "./clean.js";
import { DocumentError } from "./error.js";
import { readPdf } from "./pdf.js";

export { DocumentError };

export const MAX_BYTES = 32 * 1024 * 1024;
export const MAX_UNITS = 4_000_000; // of text, in all pages together
const MARKDOWN = new Set(["md", "markdown", "mdown", "mkd"]);

/**
 * `{ id, name, kind, bytes, pages, pageCount, cut }`: `kind` is "text", "markdown" or "pdf", and
 * anything but a PDF has one page. `pageCount` are the pages of the file, which `cut` says has more
 * than `pages` hold. `onProgress(share)` is called with how much of a PDF is read, from 0 to 1.
 * Throws DocumentError, or the signal's reason.
 */
export async function readDocument(file, { signal, onProgress } = {}) {
  const content = await contentOf(file, signal);
  const read = isPdf(content, file.name, file.type)
    ? await pagesOfPdf(content, { signal, onProgress })
    : pagesOfText(content, file.name);
  return { id: randomId(), name: cleanName(file.name), bytes: file.size, ...read };
}

async function contentOf(file, signal) {
  signal?.throwIfAborted();
  if (file.size > MAX_BYTES) throw new DocumentError("document_too_large", { limit: MAX_BYTES });
  let buffer;
  try {
    buffer = await file.arrayBuffer();
  } catch {
    throw new DocumentError("document_unreadable"); // a folder, or a file that changed or went
  }
  signal?.throwIfAborted();
  if (buffer.byteLength === 0) throw new DocumentError("document_is_empty");
  return new Uint8Array(buffer);
}

function pagesOfText(content, name) {
  const text = textOf(content, name);
  const page = cleanText(firstUnits(text, MAX_UNITS));
  if (page.trim() === "") throw new DocumentError("document_is_empty");
  const kind = MARKDOWN.has(extensionOf(name)) ? "markdown" : "text";
  return { kind, pages: [page], pageCount: 1, cut: text.length > MAX_UNITS };
}

async function pagesOfPdf(content, { signal, onProgress }) {
  const read = await readPdf(content, { signal, onProgress, maxUnits: MAX_UNITS });
  let { cut } = read;
  let left = MAX_UNITS;
  const pages = [];
  for (const text of read.pages) {
    const whole = cleanText(text).trim();
    const page = firstUnits(whole, left);
    if (page.length < whole.length) cut = true;
    left -= page.length;
    pages.push(page);
  }
  if (left === MAX_UNITS) throw new DocumentError("pdf_has_no_text", { pages: read.pageCount });
  return { kind: "pdf", pages, pageCount: read.pageCount, cut };
}

/** As random as a UUID, which the browser makes only for pages that come by HTTPS. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
