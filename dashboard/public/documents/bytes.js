// What bytes are: text in one of four encodings, or the name of what they are instead. Knows no
// file and no limit.

import { DocumentError } from "./error.js";

const MAX_CONTROLS = 1 / 200; // of all characters; a log after a power cut has a few
const MAX_BROKEN = 1 / 10; // of the characters beyond ASCII, for it to be UTF-8 all the same
const MAX_ACCENTS = 3 / 10; // of Windows-1252: beyond, it is another alphabet's encoding
const CONTROLS = /[\0-\x07\x0e-\x1a\x1c-\x1f\x7f]/g;
const BEYOND_ASCII = /[^\0-\x7f]/gu;
const NOT_IN_1252 = /[\x81\x8d\x8f\x90\x9d]/;

const KINDS = [
  ["png", "\x89PNG"],
  ["jpeg", "\xff\xd8\xff"],
  ["gif", "GIF8"],
  ["bmp", "BM"],
  ["tiff", "II*\0"],
  ["tiff", "MM\0*"],
  ["ico", "\0\0\x01\0"],
  ["webp", "WEBP", 8],
  ["avi", "AVI ", 8],
  ["wav", "WAVE", 8],
  ["heic", "ftyphei", 4],
  ["avif", "ftypavi", 4],
  ["mp4", "ftyp", 4],
  ["webm", "\x1aE\xdf\xa3"],
  ["mp3", "ID3"],
  ["mp3", "\xff\xfb"],
  ["ogg", "OggS"],
  ["flac", "fLaC"],
  ["zip", "PK\x03\x04"],
  ["zip", "PK\x05\x06"],
  ["gzip", "\x1f\x8b"],
  ["bzip2", "BZh"],
  ["xz", "\xfd7zXZ\0"],
  ["zstd", "\x28\xb5\x2f\xfd"],
  ["7z", "7z\xbc\xaf\x27\x1c"],
  ["rar", "Rar!\x1a\x07"],
  ["tar", "ustar", 257],
  ["office", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
  ["sqlite", "SQLite format 3\0"],
  ["gguf", "GGUF"],
  ["program", "\x7fELF"],
  ["program", "MZ"],
  ["program", "\xcf\xfa\xed\xfe"],
  ["wasm", "\0asm"],
  ["java", "\xca\xfe\xba\xbe"],
  ["font", "wOF"],
  ["font", "\0\x01\0\0"],
  ["font", "OTTO"],
];
/** What these two only contain is said by the name. */
const CONTAINED = {
  zip: ["docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "jar", "apk", "pages", "numbers"],
  office: ["doc", "xls", "ppt", "msg"],
};

export function extensionOf(name) {
  return /\.([a-z0-9]{1,10})$/i.exec(name)?.[1].toLowerCase() ?? "";
}

/** PDF allows something in front of its first line, which a text that mentions PDF has as well. */
export function isPdf(bytes, name, type) {
  if (latin1(bytes.subarray(0, 5)) === "%PDF-") return true;
  return type === "application/pdf" || extensionOf(name) === "pdf";
}

/** The text in the bytes. Throws DocumentError, with the kind of what is none. */
export function textOf(bytes, name) {
  // Rich Text is made of letters and still nothing that a person or a model reads.
  if (latin1(bytes.subarray(0, 5)) === "{\\rtf") {
    throw new DocumentError("document_kind_unknown", { kind: "rtf" });
  }
  const text = decoded(bytes);
  if (text !== undefined) return text;
  const kind = kindOf(bytes, name);
  if (kind) throw new DocumentError("document_kind_unknown", { kind });
  throw new DocumentError("document_is_binary");
}

function kindOf(bytes, name) {
  const start = latin1(bytes.subarray(0, 512));
  const kind = KINDS.find(([, magic, at = 0]) => start.startsWith(magic, at))?.[0];
  const extension = extensionOf(name);
  return CONTAINED[kind]?.includes(extension) ? extension : kind;
}

function decoded(bytes) {
  const text = guessed(bytes);
  if (text === undefined || count(text, CONTROLS) > text.length * MAX_CONTROLS) return undefined;
  return text;
}

function guessed(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return unlessBroken(decode(bytes, "utf-16le"));
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return unlessBroken(decode(bytes, "utf-16be"));
  // One letter that was cut in two does not make all others another encoding's.
  const text = unlessBroken(decode(bytes, "utf-8"));
  if (text !== undefined) return text;
  const guess = decode(bytes, "windows-1252");
  const accents = count(guess, BEYOND_ASCII);
  return NOT_IN_1252.test(guess) || accents > guess.length * MAX_ACCENTS ? undefined : guess;
}

function unlessBroken(text) {
  const broken = count(text, /\ufffd/g);
  return broken > 0 && broken > count(text, BEYOND_ASCII) * MAX_BROKEN ? undefined : text;
}

function decode(bytes, encoding) {
  return new TextDecoder(encoding).decode(bytes);
}

function count(text, pattern) {
  let n = 0;
  pattern.lastIndex = 0;
  while (pattern.test(text)) n++;
  return n;
}

/** Each byte as the character of its number, for comparisons. */
function latin1(bytes) {
  return String.fromCharCode(...bytes);
}
