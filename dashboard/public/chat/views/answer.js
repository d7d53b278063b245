// An answer: its text as Markdown while it comes, what it waits for, what went wrong, its figures.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

import { MarkdownView } from "../../markdown/view.js";
import { html } from "../../shared/html.js";
import { firstAfter, isRunning, speedOf, tokensOf } from "../reading.js";
import { usePage } from "../ui.js";
import { adviceText, errorText } from "../words/index.js";
import { CopyButton } from "./copy-button.js";
import { Icon } from "./icons.js";
import { Versions } from "./versions.js";

const DRAW_MS = 50; // laying out a text takes time: once for many pieces

export function Answer({ message, last }) {
  const { words } = usePage();
  const running = isRunning(message);
  const dropped = message.dropped > 0 ? words.dropped(message.dropped) : "";
  // A screen reader reads the answer when it is whole, not token by token.
  return html`<article
    class="answer"
    data-id=${message.id}
    data-outcome=${message.outcome}
    aria-busy=${String(running)}
  >
    <h2 class="unseen">${words.answer}</h2>
    ${dropped && html`<p class="note">${dropped}</p>`}
    ${message.text !== "" && html`<${Text} message=${message} />`}
    ${running && html`<${Waiting} message=${message} />`}
    ${message.error && html`<${Problem} message=${message} last=${last} />`}
    ${!running && html`<${Foot} message=${message} last=${last} />`}
  </article>`;
}

function Text({ message }) {
  const { words } = usePage();
  const element = useRef(null);
  const view = useRef(null);
  const latest = useRef(null);
  const timer = useRef(null);
  latest.current = message;

  function draw() {
    timer.current = null;
    const { text } = latest.current;
    view.current.update(text, { streaming: isRunning(latest.current) });
  }

  useLayoutEffect(() => {
    view.current = new MarkdownView(element.current, words.markdown);
    draw();
    return () => clearTimeout(timer.current);
  }, []);
  useEffect(() => view.current.setWords(words.markdown), [words]);
  // Who sees that an answer has ended sees all of it.
  useLayoutEffect(() => {
    if (isRunning(message)) timer.current ??= setTimeout(draw, DRAW_MS);
    else {
      clearTimeout(timer.current);
      draw();
    }
  }, [message.text, message.outcome]);
  return html`<div class="text markdown" ref=${element}></div>`;
}

function Waiting({ message }) {
  const { ui, words } = usePage();
  const text = waitingText(message, words, ui);
  if (text === "") return null;
  const { progress } = message;
  const share = progress && progress.place === null && progress.total > 0;
  return html`<div class="waiting">
    <p>${text}</p>
    ${share &&
    message.outcome === "waiting" &&
    html`<progress max=${progress.total} value=${progress.processed} aria-label=${text}></progress>`}
  </div>`;
}

/** What a running answer waits for; empty while its text comes. */
export function waitingText(message, words, ui) {
  const { waiting } = words;
  if (message.stopping) return words.stopping;
  if (message.waitsFor) return waiting[message.waitsFor] ?? waiting.waiting;
  if (message.lost) return waiting.lost;
  if (message.outcome === "streaming") return "";
  if (message.response === null) return waiting.sending;
  const { progress } = message;
  if (!progress) return waiting.waiting;
  if (progress.place !== null) return waiting.queued(progress.place);
  if (!progress.total || progress.processed >= progress.total) return waiting.thinking;
  return waiting.reading(ui.number((100 * progress.processed) / progress.total));
}

function Problem({ message, last }) {
  const { chat, ui, words } = usePage();
  const { error } = message;
  const translated = errorText(words, error.code);
  const advice = adviceText(words, error.code);
  const details = [error.code, error.status && `HTTP ${error.status}`].filter(Boolean);
  return html`<div class="error" role="alert">
    <strong>${message.text ? words.brokenOff : words.failed}</strong>
    <p class="message" lang=${translated ? ui.language.value : "en"}>
      ${translated ?? error.message}
    </p>
    ${advice && html`<p class="advice">${advice}</p>`}
    <p class="foot">
      ${last && html`<${WayOut} message=${message} />`}
      <code>${details.join(" · ")}</code>
      ${error.retryAfter && html`<span>${words.retryAfter(error.retryAfter)}</span>`}
    </p>
    ${translated &&
    error.message &&
    html`<details class="original">
      <summary>${words.original}</summary>
      <p lang="en">${error.message}</p>
    </details>`}
  </div>`;
}

/** What to do about an error: to ask again, or to edit where the same question would get the same. */
function WayOut({ message }) {
  const { chat, ui, words } = usePage();
  const { error } = message;
  const same = error.status === 400 || error.status === 413 || SAME.has(error.code);
  if (same) {
    const edit = () => (ui.editing.value = message.parent);
    return html`<button type="button" class="again" onClick=${edit}>${words.editQuestion}</button>`;
  }
  return html`<button type="button" class="again" onClick=${() => chat.again(message.id)}>
    ${words.again}
  </button>`;
}

const SAME = new Set(["context_length_exceeded", "invalid_prompt", "request_crashes_engine"]);

function Foot({ message, last }) {
  const { chat, ui, words } = usePage();
  const cut = message.finish === "length" || message.outcome === "stopped";
  const mayGoOn = last && message.text !== "" && (cut || message.outcome === "error");
  const figures = figuresOf(message, words, ui);
  return html`<div class="foot">
    <div class="actions">
      <${Versions} message=${message} />
      ${message.text !== "" && html`<${CopyButton} text=${message.text} />`}
      ${message.outcome !== "error" &&
      html`<button
        type="button"
        class="quiet icon small regenerate"
        aria-label=${words.regenerate}
        title=${words.regenerate}
        disabled=${chat.running.value !== null}
        onClick=${() => chat.again(message.id)}
      >
        <${Icon} name="again" />
      </button>`}
      ${mayGoOn &&
      html`<button type="button" class="small continue" onClick=${() => chat.goOn(message.id)}>
        <${Icon} name="go" />${words.continue}
      </button>`}
    </div>
    ${figures && html`<p class="figures">${figures}</p>`}
  </div>`;
}

function figuresOf(message, words, ui) {
  const parts = [];
  const tokens = tokensOf(message);
  const speed = speedOf(message);
  if (message.outcome === "stopped") parts.push(words.stopped);
  if (message.timedOut) parts.push(words.timedOut);
  else if (message.finish === "length") parts.push(words.tooLong);
  if (tokens > 0) parts.push(words.tokens(ui.number(tokens)));
  if (speed) parts.push(words.perSecond(ui.number(speed, 1)));
  const after = firstAfter(message);
  if (after !== null && message.outcome === "done") parts.push(words.firstAfter(ui.number(after, 1)));
  return parts.join(" · ");
}
