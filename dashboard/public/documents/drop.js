// How files get onto the page: dropped or pasted. Knows neither what is in them nor what they are
// for.

import { cleanName } from "./clean.js";
import { DocumentError } from "./error.js";

export const MAX_FILES = 10; // at a time

/**
 * Calls `onFiles(files)` when files come to `target`, which is the window, the document or an
 * element, and `onError(error)` with a DocumentError for what cannot be taken. `onDrag(true)` says
 * that files are held over the target, `onDrag(false)` that they are gone. What else is dragged and
 * pasted is left to the browser. Gives a function that ends it all.
 */
export function acceptFiles({ target, onFiles, onError, onDrag }) {
  const listening = new AbortController();
  const listen = (type, listener) =>
    target.addEventListener(type, listener, { signal: listening.signal });
  const take = (files) => {
    if (files.length > MAX_FILES) {
      onError(new DocumentError("too_many_documents", { limit: MAX_FILES }));
    } else if (files.length > 0) {
      onFiles(files);
    }
  };
  const drop = (data) => {
    const { files, folders } = droppedFiles(data);
    take(files);
    for (const name of folders) {
      onError(new DocumentError("document_unreadable", { name: cleanName(name) }));
    }
  };

  listenForDrags(listen, onDrag, drop);
  listen("paste", (event) => {
    const files = pastedFiles(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
  return () => listening.abort();
}

function listenForDrags(listen, onDrag, onDrop) {
  let ownDrag = false; // a picture of the page is a file to the browser
  let over = null; // the innermost element, as each one that is entered and left has its events
  const isOfFiles = (event) => !ownDrag && event.dataTransfer?.types.includes("Files");
  const leave = () => {
    if (over === null) return;
    over = null;
    onDrag(false);
  };
  listen("dragstart", () => (ownDrag = true));
  listen("dragend", () => (ownDrag = false));
  listen("dragenter", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    const before = over;
    over = event.target;
    if (before === null) onDrag(true);
  });
  listen("dragleave", (event) => {
    if (event.target === over) leave();
  });
  listen("dragover", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault(); // allows the drop
    event.dataTransfer.dropEffect = "copy";
  });
  listen("drop", (event) => {
    leave();
    if (!isOfFiles(event)) return;
    event.preventDefault();
    onDrop(event.dataTransfer);
  });
}

function droppedFiles(data) {
  const files = [];
  const folders = [];
  for (const item of data.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) folders.push(entry.name);
    else files.push(item.getAsFile());
  }
  return { files, folders };
}

/** Rich text comes with a picture of itself, and is text all the same. */
function pastedFiles(data) {
  return data === null || data.types.includes("text/html") ? [] : [...data.files];
}
