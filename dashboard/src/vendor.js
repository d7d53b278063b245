// The packages' files that the page loads; knows where they lie in node_modules.

import { existsSync } from "node:fs";

const PACKAGES = new URL("../node_modules/", import.meta.url);

const FILES = new Map([
  ["/vendor/preact.js", "preact/dist/preact.mjs"],
  ["/vendor/preact-hooks.js", "preact/hooks/dist/hooks.mjs"],
  ["/vendor/signals-core.js", "@preact/signals-core/dist/signals-core.mjs"],
  ["/vendor/signals.js", "@preact/signals/dist/signals.mjs"],
  ["/vendor/htm.js", "htm/dist/htm.mjs"],
  ["/vendor/marked.js", "marked/lib/marked.esm.js"],
  ["/vendor/purify.js", "dompurify/dist/purify.es.mjs"],
  ["/vendor/highlight.js", "@highlightjs/cdn-assets/es/highlight.min.js"],
  ["/vendor/uplot.js", "uplot/dist/uPlot.esm.js"],
  ["/vendor/uplot.css", "uplot/dist/uPlot.min.css"],
  ["/vendor/pdf.js", "pdfjs-dist/legacy/build/pdf.min.mjs"],
  ["/vendor/pdf.worker.js", "pdfjs-dist/legacy/build/pdf.worker.min.mjs"],
]);
const PDF_DATA = /^\/vendor\/((?:cmaps|standard_fonts)\/[A-Za-z0-9_-]+\.(?:bcmap|pfb|ttf))$/;

/** The file's URL on disk for a path below /vendor/; undefined where the page may load none. */
export function vendorFile(path) {
  const data = PDF_DATA.exec(path);
  const name = data ? `pdfjs-dist/${data[1]}` : FILES.get(path);
  return name && new URL(name, PACKAGES);
}

/** The paths whose files are not installed. */
export function missingPackages() {
  return [...FILES.keys()].filter((path) => !existsSync(vendorFile(path)));
}
