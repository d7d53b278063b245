// The versions of a message: which one is shown, and the way to the others.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";

export function Versions({ message }) {
  const { chat, words } = usePage();
  const ids = chat.versions(message.id);
  if (ids.length < 2) return null;
  const i = ids.indexOf(message.id);
  const button = (name, label, to) => html`<button
    type="button"
    class="quiet icon small"
    aria-label=${label}
    disabled=${to === undefined}
    onClick=${() => chat.showVersion(to)}
  >
    <${Icon} name=${name} />
  </button>`;
  return html`<span class="versions" role="group">
    ${button("left", words.previousVersion, ids[i - 1])}
    <span>${words.version(i + 1, ids.length)}</span>
    ${button("right", words.nextVersion, ids[i + 1])}
  </span>`;
}
