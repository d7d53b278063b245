// The list of conversations: search, groups by age, and what can be done with each.

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Entry } from "./entry.js";
import { Found } from "./found.js";
import { Icon } from "./icons.js";

const DAY_MS = 24 * 60 * 60 * 1000;

export function Sidebar() {
  const { chat, ui, words } = usePage();
  const searching = ui.query.value.trim() !== "";
  const fresh = () => {
    chat.open(null);
    ui.leaveSidebar();
    document.getElementById("question").focus();
  };
  return html`<nav id="sidebar" class="sidebar" aria-label=${words.conversations}>
    <div class="brand">
      <img src="icon.svg" alt="" width="28" height="28" />
      <strong>SHEILY</strong>
      <button
        type="button"
        class="quiet icon shut"
        aria-label=${words.hideSidebar}
        onClick=${() => (ui.sidebar.value = false)}
      >
        <${Icon} name="close" />
      </button>
    </div>
    <button type="button" id="new-chat" class="fresh" onClick=${fresh}>
      <${Icon} name="plus" />${words.newChat}
    </button>
    <label class="search">
      <span class="unseen">${words.searchIn}</span>
      <${Icon} name="search" />
      <input
        type="search"
        id="search"
        placeholder=${words.search}
        value=${ui.query.value}
        onInput=${(event) => (ui.query.value = event.target.value)}
      />
    </label>
    <div class="list">${searching ? html`<${Found} />` : html`<${List} />`}</div>
    <${Foot} />
  </nav>`;
}

function List() {
  const { chat, words } = usePage();
  const { value: conversations } = chat.conversations;
  if (conversations.length === 0) {
    return html`<p class="soft nothing">${words.noConversations}</p>`;
  }
  return groupsOf(conversations, Date.now()).map(
    ([name, entries]) => html`<section key=${name}>
      <h2>${words.groups[name]}</h2>
      <ul>
        ${entries.map((each) => html`<${Entry} key=${each.id} conversation=${each} />`)}
      </ul>
    </section>`,
  );
}

/** `[[name of the group, conversations]]`, by the day of their last change. */
export function groupsOf(conversations, now) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const bounds = [
    ["today", midnight],
    ["yesterday", midnight - DAY_MS],
    ["week", midnight - 7 * DAY_MS],
    ["month", midnight - 30 * DAY_MS],
    ["earlier", -Infinity],
  ];
  const groups = bounds.map(([name]) => [name, []]);
  for (const each of conversations) {
    groups[bounds.findIndex(([, begin]) => each.updated >= begin)][1].push(each);
  }
  return groups.filter(([, entries]) => entries.length > 0);
}

function Foot() {
  const { ui, words, session, signOut } = usePage();
  return html`<div class="below">
    <a class="button quiet" href="metrics.html"><${Icon} name="chart" />${words.metrics}</a>
    <button
      type="button"
      id="keys-button"
      class="quiet"
      onClick=${() => (ui.dialog.value = { name: "keys" })}
    >
      <${Icon} name="keys" />${words.shortcuts}
    </button>
    ${session?.password &&
    html`<button type="button" id="sign-out" class="quiet" onClick=${signOut}>
      <${Icon} name="out" />${words.signOut}
    </button>`}
  </div>`;
}
