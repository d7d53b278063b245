// The list of keys.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Dialog } from "./dialogs.js";

export function Keys() {
  const { words } = usePage();
  const { keys } = words;
  const rows = [
    [[keys.enter], keys.send],
    [[keys.shift, keys.enter], keys.line],
    [[keys.esc], keys.stop],
    [["↑"], keys.editLast],
    [[keys.ctrl, "K"], keys.search],
    [[keys.ctrl, keys.shift, "O"], keys.newChat],
    [[keys.ctrl, ","], keys.settings],
    [[keys.ctrl, "B"], keys.sidebar],
    [[keys.ctrl, keys.shift, "C"], keys.copyLast],
    [[keys.alt, "↑ ↓"], keys.previous],
    [["?"], keys.help],
  ];
  return html`<${Dialog} title=${keys.title}>
    <dl class="keys">
      ${rows.map(
        ([names, text]) => html`<div>
          <dt>${text}</dt>
          <dd>${names.map((name) => html`<kbd>${name}</kbd>`)}</dd>
        </div>`,
      )}
    </dl>
  <//>`;
}
