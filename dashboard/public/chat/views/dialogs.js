// The dialog that is open, if one is: settings, keys, or whether to delete.

import { useLayoutEffect, useRef } from "preact/hooks";

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";
import { Keys } from "./keys.js";
import { Settings } from "./settings.js";

export function Dialogs() {
  const { ui } = usePage();
  const { value: open } = ui.dialog;
  if (open === null) return null;
  if (open.name === "settings") return html`<${Settings} />`;
  if (open.name === "keys") return html`<${Keys} />`;
  return html`<${Remove} conversation=${open.conversation ?? null} />`;
}

/** A modal dialog; the browser keeps the focus in it, and gives it back. */
export function Dialog({ title, kind = "", children }) {
  const { ui, words } = usePage();
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const { activeElement } = document;
    dialog.current.showModal();
    return () => activeElement?.focus?.();
  }, []);
  const close = () => (ui.dialog.value = null);
  const outside = (event) => {
    if (event.target === dialog.current) close();
  };
  return html`<dialog
    ref=${dialog}
    class="dialog ${kind}"
    aria-labelledby="dialog-title"
    onClose=${close}
    onPointerDown=${outside}
  >
    <div class="inside">
      <header>
        <h2 id="dialog-title">${title}</h2>
        <button type="button" class="quiet icon" aria-label=${words.close} onClick=${close}>
          <${Icon} name="close" />
        </button>
      </header>
      ${children}
    </div>
  </dialog>`;
}

function Remove({ conversation }) {
  const { chat, ui, words } = usePage();
  const all = conversation === null;
  const remove = async () => {
    ui.dialog.value = null;
    if (all) await chat.removeAll();
    else await chat.remove(conversation.id);
    document.getElementById("question").focus();
  };
  const n = chat.conversations.value.length;
  return html`<${Dialog} title=${all ? words.removeAllTitle : words.removeTitle} kind="small">
    <p>
      ${all ? words.removeAllText(n) : words.removeText(conversation.title || words.untitled)}
    </p>
    <div class="buttons">
      <button type="button" class="quiet" autofocus onClick=${() => (ui.dialog.value = null)}>
        ${words.cancel}
      </button>
      <button type="button" class="danger" id="remove" onClick=${remove}>
        ${all ? words.removeAll : words.remove}
      </button>
    </div>
  <//>`;
}
