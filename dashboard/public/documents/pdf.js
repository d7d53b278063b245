// The text of a PDF, page by page, by pdf.js in a worker of its own; knows no file and no model.

import { DocumentError } from "./error.js";

const LIBRARY = "/vendor/pdf.js";
const WORKER = "/vendor/pdf.worker.js";
const LIMITS = { pages: 5000, stepMs: 20_000 };
const PARAGRAPH = 1.8; // of the letters' height, from a line to the next one

const policy = globalThis.trustedTypes?.createPolicy("pdf-worker", {
  createScriptURL(url) {
    if (url === WORKER) return url;
    throw new TypeError(`No worker runs ${url}.`);
  },
});

class TooSlow extends Error {}

/**
 * `{ pages, pageCount, cut }`: `pages` are fewer than the file has where it has too many of them,
 * where one takes too long, or where they have more than `maxUnits` of text; a page that is broken
 * is empty. The bytes are given away. Throws DocumentError, and the signal's reason.
 */
export async function readPdf(bytes, { signal, onProgress, maxUnits, limits = LIMITS }) {
  const { getDocument, PDFWorker, VerbosityLevel } = await library();
  signal?.throwIfAborted();
  const worker = new Worker(policy?.createScriptURL(WORKER) ?? WORKER, { type: "module" });
  const step = stepsOf(worker, signal, limits.stepMs);
  const verbosity = VerbosityLevel.ERRORS;
  const task = getDocument({
    data: bytes,
    worker: new PDFWorker({ port: worker, verbosity }),
    verbosity,
    cMapUrl: "/vendor/cmaps/",
    cMapPacked: true,
    disableFontFace: true,
    useSystemFonts: true, // nothing is drawn, so that no font has to be fetched
    isEvalSupported: false,
    useWasm: false,
    enableXfa: false,
    stopAtErrors: false, // the text of a page with a broken picture is as good as any
  });
  try {
    const pdf = await step(task.promise);
    return await readPages(pdf, step, { onProgress, maxUnits, maxPages: limits.pages });
  } catch (error) {
    if (signal?.aborted || error instanceof DocumentError) throw error;
    if (error instanceof TooSlow) throw new DocumentError("pdf_takes_too_long");
    if (error.name === "PasswordException") throw new DocumentError("pdf_is_encrypted");
    throw new DocumentError("pdf_is_broken");
  } finally {
    task.destroy().catch(() => {}); // it waits for the worker, which is not there to answer
    worker.terminate();
  }
}

async function library() {
  try {
    return await import(LIBRARY);
  } catch {
    throw new DocumentError("pdf_reader_missing");
  }
}

/** Waits for one thing that the worker does: until it takes too long, the signal ends it, or the
 * worker fails. */
function stepsOf(worker, signal, ms) {
  const over = new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    worker.addEventListener("error", (event) => {
      const loaded = event instanceof ErrorEvent; // it has a message of the script's then
      reject(new DocumentError(loaded ? "pdf_is_broken" : "pdf_reader_missing"));
    });
  });
  over.catch(() => {});
  return async (promise) => {
    let timer;
    const slow = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new TooSlow()), ms);
    });
    try {
      return await Promise.race([promise, over, slow]);
    } finally {
      clearTimeout(timer);
    }
  };
}

async function readPages(pdf, step, { onProgress, maxUnits, maxPages }) {
  const pageCount = pdf.numPages;
  const pages = [];
  let units = 0;
  let broken = 0;
  while (pages.length < Math.min(pageCount, maxPages) && units <= maxUnits) {
    let text;
    try {
      text = await step(pageText(pdf, pages.length + 1, maxUnits).catch(() => undefined));
    } catch (error) {
      if (error instanceof TooSlow && units > 0) break;
      throw error;
    }
    if (text === undefined) broken++;
    pages.push(text ?? "");
    units += text?.length ?? 0;
    onProgress?.(pages.length / pageCount);
  }
  if (broken === pages.length) throw new DocumentError("pdf_is_broken");
  return { pages, pageCount, cut: broken > 0 || pages.length < pageCount };
}

/** The text in the order in which the page draws it; a page may hold any amount of it. */
async function pageText(pdf, number, maxUnits) {
  const page = await pdf.getPage(number);
  const reader = page.streamTextContent().getReader();
  const lines = new Lines();
  while (lines.text.length <= maxUnits) {
    const { done, value } = await reader.read();
    if (done) break;
    for (const item of value.items) lines.add(item);
  }
  page.cleanup();
  return lines.text;
}

class Lines {
  text = "";
  _base = null; // of the line that ended last
  _ended = false;

  add({ str, hasEOL, height, transform }) {
    const base = transform[5];
    if (str !== "" && this._ended) {
      if (Math.abs(base - this._base) > height * PARAGRAPH) this.text += "\n";
      this._ended = false;
    }
    this.text += str;
    if (str.trim() !== "") this._base = base;
    if (hasEOL && !this._ended && this._base !== null) {
      this.text += "\n";
      this._ended = true;
    }
  }
}
