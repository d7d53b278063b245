// The bar over the conversation: its title, the model and its state, the context.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { errorText } from "../words/index.js";
import { Icon } from "./icons.js";

export function Bar() {
  const { chat, ui, words } = usePage();
  const open = ui.sidebar.value;
  const conversation = chat.current.value;
  return html`<header class="bar">
    <button
      type="button"
      id="sidebar-button"
      class="quiet icon"
      aria-label=${open ? words.hideSidebar : words.showSidebar}
      aria-expanded=${String(open)}
      aria-controls="sidebar"
      onClick=${() => (ui.sidebar.value = !open)}
    >
      <${Icon} name="menu" />
    </button>
    <div class="heads">
      <h1 class="title" dir="auto">${conversation?.title || words.untitled}</h1>
      <${Model} />
    </div>
    <${Context} />
    <button
      type="button"
      id="settings-button"
      class="quiet icon"
      aria-label=${words.settings}
      onClick=${() => (ui.dialog.value = { name: "settings" })}
    >
      <${Icon} name="gear" />
    </button>
  </header>`;
}

function Model() {
  const { chat, ui, words } = usePage();
  const health = chat.health.value;
  const state = Object.hasOwn(words.state, health.state) ? health.state : "unknown";
  const loading = Number.isFinite(health.progress) && health.progress !== null;
  const percent = loading ? ` ${ui.number(100 * health.progress)} %` : "";
  return html`<p class="model">
    <span class="state" data-state=${state} role="status">
      <span class="dot" aria-hidden="true"></span>
      <span id="state-text">${words.state[state]}${percent}</span>
    </span>
    <span id="model-id" class="soft" title=${health.model_path ?? ""}>${health.model ?? ""}</span>
  </p>`;
}

/** How full the context is; a meter, as it has a best value and a limit. */
function Context() {
  const { chat, ui, words } = usePage();
  const size = chat.health.value.context_size;
  const used = chat.contextUsed();
  if (!size || used === null) return null;
  const text = words.ofContext(ui.number(used), ui.number(size));
  return html`<div class="context" title=${`${words.contextUsed}: ${text}`}>
    <meter
      id="used-bar"
      min="0"
      max="1"
      high="0.85"
      value=${Math.min(1, used / size)}
      aria-label=${words.contextUsed}
      aria-valuetext=${text}
    ></meter>
    <span id="used" class="soft">${text}</span>
  </div>`;
}

/** Why the model cannot answer, under the bar. */
export function Reason() {
  const { chat, ui, words } = usePage();
  const { reason, state, code } = chat.health.value;
  if (!reason || state === "ready") return null;
  const translated = state === "offline" ? errorText(words, code ?? null) : null;
  const language = translated ? ui.language.value : "en"; // as the server words it
  return html`<p id="reason" class="notice bad" lang=${language}>${translated ?? reason}</p>`;
}
