// The page's files; knows what is in public/ and nothing else, so that no path leads out of it.

import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { extname } from "node:path";

const FOLDER = new URL("../public/", import.meta.url);
const NAMES = new Set(readdirSync(FOLDER));
const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** The file of a URL's path as `{ type, bytes }`; undefined where there is none. */
export async function fileOf(path) {
  const name = path === "/" ? "index.html" : path.slice(1);
  if (!NAMES.has(name)) return undefined;
  const bytes = await readFile(new URL(name, FOLDER));
  return { type: TYPES[extname(name)] ?? "application/octet-stream", bytes };
}
