// The page's files; knows public/ and the packages' table, and lets no path lead out of them.

import { readFile, stat } from "node:fs/promises";
import { extname } from "node:path";

import { vendorFile } from "./vendor.js";

const FOLDER = new URL("../public/", import.meta.url);
const PLAIN_PATH = /^(?:\/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$/; // no segment can be . or ..
const BYTES = "application/octet-stream";
const TYPES = {
  ".bcmap": BYTES,
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".pfb": BYTES,
  ".svg": "image/svg+xml",
  ".ttf": BYTES,
};
const NOT_THERE = new Set(["ENOENT", "ENOTDIR", "EISDIR"]);

/** The file of a URL's path as `{ type, bytes, tag }`; undefined where there is none. */
export async function fileOf(path) {
  const place = placeOf(path === "/" ? "/index.html" : path);
  const type = place && TYPES[extname(place.pathname)];
  if (!type) return undefined;
  try {
    const { mtimeMs, size } = await stat(place);
    const bytes = await readFile(place);
    return { type, bytes, tag: `"${Math.trunc(mtimeMs).toString(36)}-${size.toString(36)}"` };
  } catch (error) {
    if (NOT_THERE.has(error.code)) return undefined;
    throw error;
  }
}

function placeOf(path) {
  if (!PLAIN_PATH.test(path)) return undefined;
  if (path.startsWith("/vendor/")) return vendorFile(path);
  return new URL(path.slice(1), FOLDER);
}
