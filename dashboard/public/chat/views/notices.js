// What has to be said once, over the conversation: storage, documents, imports, the model.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Reason } from "./bar.js";
import { Icon } from "./icons.js";

export function Notices() {
  const { chat, words } = usePage();
  const notice = chat.notice.value;
  return html`<div class="notices">
    <${Reason} />
    ${!chat.kept && html`<p class="notice" id="not-kept">${words.notKept}</p>`}
    ${notice &&
    html`<div class="notice ${notice.good ? "good" : "bad"}" id="notice" role="alert">
      <p>${textOf(notice, words)}</p>
      <button
        type="button"
        class="quiet icon"
        aria-label=${words.close}
        onClick=${() => (chat.notice.value = null)}
      >
        <${Icon} name="close" />
      </button>
    </div>`}
  </div>`;
}

function textOf({ code, message, name, good }, words) {
  if (good) return message;
  const tables = [words.storage, words.documentErrors, words.importErrors, words.errors];
  const known = tables.find((table) => Object.hasOwn(table, code));
  const text = known ? known[code] : (message ?? code);
  return name ? `${name}: ${text}` : text;
}
