// A button that copies a text and says whether that worked.

import { useSignal } from "@preact/signals";

import { copyText } from "../../shared/copy.js";
import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";

const SAID_MS = 2_000;

export function CopyButton({ text }) {
  const { ui, words } = usePage();
  const done = useSignal(false);
  async function copy() {
    const worked = await copyText(text);
    ui.say(worked ? words.copied : words.copyFailed);
    if (!worked) return;
    done.value = true;
    setTimeout(() => (done.value = false), SAID_MS);
  }
  return html`<button
    type="button"
    class="quiet icon small copy"
    aria-label=${words.copy}
    title=${done.value ? words.copied : words.copy}
    onClick=${copy}
  >
    <${Icon} name=${done.value ? "done" : "copy"} />
  </button>`;
}
