// A question, with its documents, and the field to edit it in. Its text is text, never HTML.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { CopyButton } from "./copy-button.js";
import { Icon } from "./icons.js";
import { Versions } from "./versions.js";

export function Question({ message }) {
  const { chat, ui, words } = usePage();
  const edited = ui.editing.value === message.id;
  return html`<article class="asked" data-id=${message.id}>
    <h2 class="unseen">${words.you}</h2>
    ${message.documents?.length > 0 && html`<${Documents} documents=${message.documents} />`}
    ${edited
      ? html`<${Editor} message=${message} />`
      : html`${message.text !== "" && html`<p class="text" dir="auto">${message.text}</p>`}
          <div class="actions">
            <${Versions} message=${message} />
            <${CopyButton} text=${message.text} />
            <button
              type="button"
              class="quiet icon small edit"
              aria-label=${words.editQuestion}
              title=${words.editQuestion}
              disabled=${chat.running.value !== null}
              onClick=${() => (ui.editing.value = message.id)}
            >
              <${Icon} name="edit" />
            </button>
          </div>`}
  </article>`;
}

function Editor({ message }) {
  const { chat, ui, words } = usePage();
  const text = useSignal(message.text);
  const field = useRef(null);
  useLayoutEffect(() => {
    field.current.focus();
    field.current.setSelectionRange(message.text.length, message.text.length);
  }, []);
  const close = () => {
    ui.editing.value = null;
    document.getElementById("question").focus();
  };
  const send = () => {
    const found = text.value.trim();
    if (found === "" && !message.documents?.length) return;
    close();
    chat.edit(message.id, found);
  };
  const keys = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  };
  return html`<form class="editor" onSubmit=${(event) => (event.preventDefault(), send())}>
    <textarea
      ref=${field}
      aria-label=${words.editLabel}
      rows=${Math.min(12, message.text.split("\n").length + 1)}
      value=${text}
      onInput=${(event) => (text.value = event.target.value)}
      onKeyDown=${keys}
    ></textarea>
    <div class="buttons">
      <button type="button" class="quiet" onClick=${close}>${words.cancel}</button>
      <button type="submit" class="main">${words.sendEdited}</button>
    </div>
  </form>`;
}

/** What went to the model of each document, and what did not. */
export function Documents({ documents }) {
  const { words } = usePage();
  return html`<ul class="documents" aria-label=${words.documents}>
    ${documents.map((each) => html`<li>
      <${Icon} name="file" />
      <span class="name" dir="auto">${each.name}</span>
      <span class="soft"><${Share} document=${each} /></span>
    </li>`)}
  </ul>`;
}

function Share({ document: { tokens, pages, cut, share, text } }) {
  const { ui, words } = usePage();
  if (!cut) return words.document.whole(ui.number(tokens));
  if (text === "") return words.document.none;
  const percent = ui.number(Math.max(1, Math.floor(100 * share)));
  return words.document.cut(percent, ui.number(pages[0]), pages[1]);
}
