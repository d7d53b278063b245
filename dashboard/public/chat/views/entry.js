// One conversation in the list: opened, renamed, exported, deleted.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

import { html } from "../../shared/html.js";
import { saveConversation } from "../files.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";

export function Entry({ conversation }) {
  const { chat, ui, words } = usePage();
  const renaming = useSignal(false);
  const open = chat.current.value?.id === conversation.id;
  if (renaming.value) {
    return html`<li class="entry">
      <${Rename} conversation=${conversation} onDone=${() => (renaming.value = false)} />
    </li>`;
  }
  const show = () => {
    chat.open(conversation.id);
    ui.leaveSidebar();
  };
  return html`<li class="entry">
    <a
      href="#${conversation.id}"
      class="name"
      dir="auto"
      aria-current=${open ? "page" : undefined}
      onClick=${(event) => (event.preventDefault(), show())}
    >
      ${conversation.title || words.untitled}
    </a>
    ${chat.runningIn.value.has(conversation.id) &&
    html`<span class="busy" role="img" aria-label=${words.beingAnswered}></span>`}
    <${Menu} conversation=${conversation} onRename=${() => (renaming.value = true)} />
  </li>`;
}

function Menu({ conversation, onRename }) {
  const { chat, ui, words } = usePage();
  const open = useSignal(false);
  const root = useRef(null);
  const title = conversation.title || words.untitled;

  useLayoutEffect(() => {
    if (!open.value) return undefined;
    const close = (event) => {
      if (!root.current.contains(event.target)) open.value = false;
    };
    document.addEventListener("pointerdown", close);
    root.current.querySelector("[role=menuitem]").focus();
    return () => document.removeEventListener("pointerdown", close);
  }, [open.value]);

  function keys(event) {
    const items = [...root.current.querySelectorAll("[role=menuitem]")];
    const i = items.indexOf(document.activeElement);
    const steps = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: items.length - 1 };
    if (event.key in steps && open.value) {
      event.preventDefault();
      items[(steps[event.key] + items.length) % items.length].focus();
    } else if (event.key === "Escape" && open.value) {
      event.stopPropagation();
      shut();
    } else if (event.key === "Tab") open.value = false;
  }

  function shut() {
    open.value = false;
    root.current.querySelector("button").focus();
  }

  const item = (label, action, kind = "") => html`<button
    type="button"
    role="menuitem"
    class="quiet ${kind}"
    tabindex="-1"
    onClick=${() => {
      shut();
      action();
    }}
  >
    ${label}
  </button>`;

  return html`<div class="menu" ref=${root} onKeyDown=${keys}>
    <button
      type="button"
      class="quiet icon small"
      aria-label=${words.menuOf(title)}
      aria-haspopup="menu"
      aria-expanded=${String(open.value)}
      onClick=${() => (open.value = !open.value)}
    >
      <${Icon} name="more" />
    </button>
    ${open.value &&
    html`<div class="items" role="menu" aria-label=${words.menuOf(title)}>
      ${item(words.rename, onRename)}
      ${item(words.exportMarkdown, () => saveConversation(chat, conversation.id, "md", ui))}
      ${item(words.exportJson, () => saveConversation(chat, conversation.id, "json", ui))}
      ${item(
        words.remove,
        () => (ui.dialog.value = { name: "remove", conversation }),
        "danger",
      )}
    </div>`}
  </div>`;
}

function Rename({ conversation, onDone }) {
  const { chat, words } = usePage();
  const field = useRef(null);
  useLayoutEffect(() => field.current.select(), []);
  const save = async (event) => {
    event?.preventDefault();
    await chat.rename(conversation.id, field.current.value);
    onDone();
  };
  const keys = (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onDone();
  };
  return html`<form class="rename" onSubmit=${save}>
    <input
      ref=${field}
      type="text"
      maxlength="200"
      aria-label=${words.rename}
      value=${conversation.title}
      onBlur=${() => onDone()}
      onKeyDown=${keys}
    />
  </form>`;
}
