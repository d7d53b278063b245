// Copies text, also where a page has no secure context, as one on a LAN has none.

/** Whether the text is in the clipboard now. */
export async function copyText(text) {
  if (navigator.clipboard && globalThis.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // not allowed; the older way may be
    }
  }
  return copyBySelection(text);
}

function copyBySelection(text) {
  const { activeElement } = document;
  const selection = document.getSelection();
  const ranges = Array.from({ length: selection.rangeCount }, (_, i) => selection.getRangeAt(i));
  const field = document.createElement("textarea");
  field.value = text;
  field.readOnly = true;
  field.className = "unseen";
  (activeElement?.closest("dialog") ?? document.body).append(field);
  field.select();
  let worked = false;
  // A field that is not seen may give its text without tabs and double spaces.
  const give = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  };
  document.addEventListener("copy", give);
  try {
    worked = document.execCommand("copy");
  } catch {
    // false says it
  }
  document.removeEventListener("copy", give);
  field.remove();
  selection.removeAllRanges();
  for (const range of ranges) selection.addRange(range);
  activeElement?.focus?.({ preventScroll: true });
  return worked;
}
