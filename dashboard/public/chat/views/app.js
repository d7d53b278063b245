// The whole page: the list beside the conversation, and the dialog over both.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Bar } from "./bar.js";
import { Composer } from "./composer.js";
import { Dialogs } from "./dialogs.js";
import { Log } from "./log.js";
import { Notices } from "./notices.js";
import { Sidebar } from "./sidebar.js";

export function App() {
  const { ui, words } = usePage();
  return html`
    <a class="skip" href="#question">${words.skip}</a>
    <div class="page ${ui.sidebar.value ? "with-sidebar" : ""}">
      <${Sidebar} />
      <div class="veil" aria-hidden="true" onClick=${() => (ui.sidebar.value = false)}></div>
      <div class="room">
        <${Bar} />
        <main>
          <${Notices} />
          <${Log} />
          <${Composer} />
        </main>
      </div>
    </div>
    <p class="unseen" role="status" aria-live="polite">${ui.said.value}</p>
    <${Dialogs} />
  `;
}
