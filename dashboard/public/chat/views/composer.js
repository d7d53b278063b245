// The field for a question, with its documents, and the button that sends or stops.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { acceptFiles } from "../../documents/drop.js";
import { DocumentError, readDocument } from "../../documents/read.js";
import { html } from "../../shared/html.js";
import { speedOf } from "../reading.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";
import { signal, useSignal } from "@preact/signals";

export function Composer() {
  const { chat, ui, words } = usePage();
  const field = useRef(null);
  const input = useRef(null);
  const dragged = useSignal(false);
  const running = chat.running.value;
  const preparing = chat.preparing.value;

  useLayoutEffect(() => fit(field.current), [ui.draft.value]);

  useEffect(
    () =>
      acceptFiles({
        target: document,
        onFiles: (files) => addFiles(files, ui, chat),
        onError: (error) => (chat.notice.value = { code: error.code }),
        onDrag: (is) => (dragged.value = is),
      }),
    [],
  );

  async function submit(event) {
    event?.preventDefault();
    const text = ui.draft.value.trim();
    const documents = ui.documents.value;
    if (running !== null || chat.preparing.value) return;
    if (documents.some((each) => each.state === "reading")) return;
    const read = documents.map((each) => each.document).filter(Boolean);
    if (text === "" && read.length === 0) return;
    ui.draft.value = "";
    ui.documents.value = [];
    try {
      await chat.ask(text, read);
    } catch (error) {
      // Nothing was asked: what was written is there again, before what was begun meanwhile.
      ui.draft.value = [text, ui.draft.value].filter(Boolean).join("\n");
      ui.documents.value = [...documents, ...ui.documents.value];
      chat.notice.value = { code: error.code ?? "internal_error", message: error.message };
    }
  }

  function keys(event) {
    if (event.isComposing) return; // Enter is the input method's key
    if (event.key === "Enter" && !event.shiftKey) {
      submit(event);
    } else if (event.key === "ArrowUp" && ui.draft.value === "" && running === null) {
      if (editLast(chat, ui)) event.preventDefault();
    }
  }

  return html`<form id="form" class="composer" autocomplete="off" onSubmit=${submit}>
    ${dragged.value && html`<div class="drop"><p>${words.dropHere}</p></div>`}
    <${Attached} />
    <label for="question" class="unseen">${words.question}</label>
    <div class="field">
      <button
        type="button"
        id="attach"
        class="quiet icon"
        aria-label=${words.attach}
        title=${words.attach}
        onClick=${() => input.current.click()}
      >
        <${Icon} name="clip" />
      </button>
      <input
        ref=${input}
        type="file"
        id="files"
        multiple
        hidden
        onChange=${(event) => {
          addFiles([...event.target.files], ui, chat);
          event.target.value = "";
          field.current.focus();
        }}
      />
      <textarea
        id="question"
        ref=${field}
        rows="1"
        autofocus
        dir="auto"
        aria-describedby="keys"
        placeholder=${words.placeholder}
        value=${ui.draft.value}
        onInput=${(event) => (ui.draft.value = event.target.value)}
        onKeyDown=${keys}
      ></textarea>
      ${running === null
        ? html`<button type="submit" id="send" class="main" disabled=${preparing}>${words.send}</button>`
        : html`<button
            type="button"
            id="stop"
            class="main stop"
            disabled=${running.stopping}
            onClick=${() => {
              chat.stop();
              field.current.focus();
            }}
          >
            ${words.stop}
          </button>`}
    </div>
    <p class="under">
      <span id="keys">${preparing ? words.waiting.preparing : words.hint}</span>
      <${Speed} />
    </p>
  </form>`;
}

function Speed() {
  const { chat, ui, words } = usePage();
  const running = chat.running.value;
  const speed = running === null ? null : speedOf(running);
  return html`<span id="live-speed" aria-hidden="true">
    ${speed ? words.perSecond(ui.number(speed, 1)) : ""}
  </span>`;
}

/** The field grows with its text, as far as the style lets it. */
function fit(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}

/** Opens the last question of what is shown to be edited; false where there is none. */
export function editLast(chat, ui) {
  const id = [...chat.path.value].reverse().find((each) => chat.message(each).value.role === "user");
  if (id === undefined) return false;
  ui.editing.value = id;
  return true;
}

// --- documents ------------------------------------------------------------------------------------

function addFiles(files, ui, chat) {
  if (files.length === 0) return;
  if (files.length + ui.documents.value.length > 10) {
    chat.notice.value = { code: "too_many_documents" };
    return;
  }
  chat.notice.value = null;
  for (const file of files) addFile(file, ui, chat);
}

async function addFile(file, ui, chat) {
  const controller = new AbortController();
  const progress = signal(null);
  const entry = { id: crypto.getRandomValues(new Uint32Array(2)).join("-"), name: file.name };
  const replace = (fields) => {
    ui.documents.value = ui.documents.value.map((each) =>
      each.id === entry.id ? { ...each, ...fields } : each,
    );
  };
  const stop = () => controller.abort();
  ui.documents.value = [...ui.documents.value, { ...entry, state: "reading", progress, stop }];
  try {
    const document = await readDocument(file, {
      signal: controller.signal,
      onProgress: (share) => (progress.value = share),
    });
    replace({ state: "read", name: document.name, document });
  } catch (error) {
    ui.documents.value = ui.documents.value.filter((each) => each.id !== entry.id);
    if (error.name === "AbortError") return;
    if (!(error instanceof DocumentError)) throw error;
    chat.notice.value = { code: error.code, name: file.name.slice(0, 120) };
  }
}

function Attached() {
  const { ui, words } = usePage();
  const { value: documents } = ui.documents;
  if (documents.length === 0) return null;
  const remove = (id) => {
    documents.find((each) => each.id === id).stop();
    ui.documents.value = documents.filter((each) => each.id !== id);
    document.getElementById("question").focus();
  };
  return html`<ul class="documents attached" aria-label=${words.documents}>
    ${documents.map((each) => html`<li key=${each.id} data-state=${each.state}>
      <${Icon} name="file" />
      <span class="name" dir="auto">${each.name}</span>
      <span class="soft">${stateOf(each, words, ui)}</span>
      <button
        type="button"
        class="quiet icon small"
        aria-label=${words.document.remove(each.name)}
        onClick=${() => remove(each.id)}
      >
        <${Icon} name="close" />
      </button>
    </li>`)}
  </ul>`;
}

function stateOf({ state, document, progress }, words, ui) {
  if (state === "reading") {
    return progress.value === null ? "…" : `${ui.number(100 * progress.value)} %`;
  }
  const parts = document.pages.length > 1 ? [words.document.pages(document.pages.length)] : [];
  if (document.cut) parts.push(words.document.wasCut);
  return parts.join(" · ");
}
