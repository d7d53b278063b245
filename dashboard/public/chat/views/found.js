// What a search finds, in titles and messages, as it is found.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";

const WAIT_MS = 150; // for more letters
const LIMIT = 50;

export function Found() {
  const { chat, ui, words } = usePage();
  const query = ui.query.value.trim();
  const found = useSignal([]);
  const ended = useSignal(false);

  useEffect(() => {
    const controller = new AbortController();
    found.value = [];
    ended.value = false;
    const timer = setTimeout(() => look(controller.signal), WAIT_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [query]);

  async function look(signal) {
    const results = chat.search(query, { signal, limit: LIMIT });
    try {
      for await (const each of results) {
        if (signal.aborted) return;
        found.value = [...found.value, each];
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      return;
    }
    if (signal.aborted) return;
    ended.value = true;
    ui.say(found.value.length === 0 ? words.noMatch : words.matches(found.value.length));
  }

  const open = async (each) => {
    await chat.open(each.conversation.id);
    if (each.message) await chat.showVersion(each.message.id);
    ui.leaveSidebar();
  };
  if (ended.value && found.value.length === 0) {
    return html`<p class="soft nothing">${words.noMatch}</p>`;
  }
  return html`<ul class="found">
    ${found.value.map(
      (each) => html`<li class="entry" key=${`${each.conversation.id} ${each.message?.id ?? ""}`}>
        <a
          href="#${each.conversation.id}"
          class="name"
          dir="auto"
          onClick=${(event) => (event.preventDefault(), open(each))}
        >
          <strong>${each.conversation.title || words.untitled}</strong>
          <span class="snippet">
            ${each.snippet[0]}<mark>${each.snippet[1]}</mark>${each.snippet[2]}
          </span>
        </a>
      </li>`,
    )}
  </ul>`;
}
