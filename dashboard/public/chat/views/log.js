// The messages that are shown: the newest first of all, earlier ones as somebody scrolls up to
// them, so that a conversation of any length opens at once.

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { html } from "../../shared/html.js";
import { usePage } from "../ui.js";
import { Icon } from "./icons.js";
import { Message } from "./message.js";

const PAGE = 40; // messages that are added at a time
const MOST = 200; // that are kept once somebody is at the end again
const NEAR_END_PX = 80;

export function Log() {
  const { chat, ui, words } = usePage();
  const { value: path } = chat.path;
  const conversation = chat.current.value?.id ?? null;
  const log = useRef(null);
  const inner = useRef(null);
  const shown = useSignal(PAGE);
  const atEnd = useSignal(true);
  const lastTop = useRef(0);
  const before = useRef(null); // the height under the first message, before earlier ones come

  const first = Math.max(0, path.length - shown.value);
  const ids = path.slice(first);

  useLayoutEffect(() => {
    shown.value = PAGE;
    atEnd.value = true;
    log.current.scrollTop = log.current.scrollHeight;
  }, [conversation]);

  // What was asked last is to be seen, wherever the log stood.
  useLayoutEffect(() => {
    if (chat.running.peek() === null) return;
    atEnd.value = true;
    shown.value = PAGE;
    log.current.scrollTop = log.current.scrollHeight;
  }, [path]);

  // Earlier messages push nothing away: what was read stays where it was.
  useLayoutEffect(() => {
    if (before.current !== null) {
      log.current.scrollTop = log.current.scrollHeight - before.current;
      before.current = null;
    } else if (atEnd.peek()) log.current.scrollTop = log.current.scrollHeight;
  }, [first]);

  useEffect(() => {
    const followed = new ResizeObserver(() => {
      if (atEnd.peek()) log.current.scrollTop = log.current.scrollHeight;
    });
    followed.observe(inner.current);
    followed.observe(log.current);
    return () => followed.disconnect();
  }, []);

  function scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = log.current;
    // What grows under the last line leaves it; only a person goes up.
    if (scrollHeight - scrollTop - clientHeight < NEAR_END_PX) atEnd.value = true;
    else if (scrollTop < lastTop.current) atEnd.value = false;
    lastTop.current = scrollTop;
    // Who is back at the end needs no longer what they have read above.
    if (atEnd.value && shown.value > MOST) shown.value = PAGE;
    if (scrollTop < clientHeight) earlier();
  }

  function earlier() {
    if (first === 0 || before.current !== null) return;
    before.current = log.current.scrollHeight - log.current.scrollTop;
    shown.value = Math.min(path.length, shown.value + PAGE);
  }

  return html`<div class="log-frame">
    <div
      id="log"
      class="log"
      role="log"
      tabindex="0"
      aria-label=${words.conversation}
      ref=${log}
      onScroll=${scrolled}
    >
      <div class="inner" ref=${inner}>
        ${first > 0 &&
        html`<button type="button" class="quiet earlier" onClick=${earlier}>${words.earlier}</button>`}
        ${path.length === 0 && html`<${Welcome} />`}
        ${ids.map((id, i) => html`<${Message} key=${id} id=${id} last=${first + i === path.length - 1} />`)}
      </div>
    </div>
    ${!atEnd.value &&
    html`<button
      type="button"
      class="icon to-end"
      aria-label=${words.toEnd}
      onClick=${() => log.current.scrollTo({ top: log.current.scrollHeight })}
    >
      <${Icon} name="down" />
    </button>`}
  </div>`;
}

function Welcome() {
  const { ui, words } = usePage();
  const take = (idea) => {
    ui.draft.value = idea;
    document.getElementById("question").focus();
  };
  return html`<div id="welcome" class="welcome">
    <h2>${words.welcome}</h2>
    <p class="soft">${words.welcomeMore}</p>
    <div class="ideas">
      ${words.ideas.map(
        (idea) => html`<button type="button" class="idea" onClick=${() => take(idea)}>${idea}</button>`,
      )}
    </div>
  </div>`;
}
