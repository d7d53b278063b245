// How files get onto the page: dropped, pasted, chosen. Knows neither what is in them nor what they
// are for.

import { cleanName } from "./clean.js";
import { DocumentError } from "./error.js";

export const MAX_FILES = 10; // at a time

/**
 * Calls `onFiles(files, errors)` when files come to `target`, which is the window or an element, or
 * are chosen in `input`, where there is one; `errors` are DocumentErrors for what is not among the
 * files. `onDrag(true)` says that files are held over the target, `onDrag(false)` that they are
 * gone. What else is dragged and pasted is left to the browser. Gives a function that ends it all.
 */
export function acceptFiles({ target, input, onFiles, onDrag }) {
  const listening = new AbortController();
  const listen = (source, type, listener) =>
    source.addEventListener(type, listener, { signal: listening.signal });
  const take = (files, errors = []) => {
    if (files.length + errors.length === 0) return;
    if (files.length <= MAX_FILES) onFiles(files, errors);
    else onFiles([], [new DocumentError("too_many_documents", { limit: MAX_FILES })]);
  };

  listenForDrags(target, listen, onDrag, take);
  listen(target, "paste", (event) => {
    const files = pastedFiles(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    take(files);
  });
  if (input) {
    listen(input, "change", () => {
      const files = [...input.files];
      input.value = ""; // or the same file could not be chosen once more
      take(files);
    });
  }
  return () => listening.abort();
}

function listenForDrags(target, listen, onDrag, take) {
  let ownDrag = false; // a picture of the page is a file to the browser
  let over = null; // the innermost element, as each one that is entered and left has its events
  const isOfFiles = (event) => !ownDrag && event.dataTransfer?.types.includes("Files");
  const leave = () => {
    if (over === null) return;
    over = null;
    onDrag(false);
  };
  listen(target, "dragstart", () => (ownDrag = true));
  listen(target, "dragend", () => (ownDrag = false));
  listen(target, "dragenter", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault();
    const before = over;
    over = event.target;
    if (before === null) onDrag(true);
  });
  listen(target, "dragleave", (event) => {
    if (event.target === over) leave();
  });
  listen(target, "dragover", (event) => {
    if (!isOfFiles(event)) return;
    event.preventDefault(); // allows the drop
    event.dataTransfer.dropEffect = "copy";
  });
  listen(target, "drop", (event) => {
    leave();
    if (!isOfFiles(event)) return;
    event.preventDefault();
    const { files, folders } = droppedFiles(event.dataTransfer);
    take(files, folders.map(folderError));
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

function folderError(name) {
  return new DocumentError("document_unreadable", { name: cleanName(name) });
}

/** Rich text comes with a picture of itself, and is text all the same. */
function pastedFiles(data) {
  return data === null || data.types.includes("text/html") ? [] : [...data.files];
}
