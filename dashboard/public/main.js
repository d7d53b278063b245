// What the page does: sends, stops, asks for the health, changes the language.

import { fetchHealth, streamChat } from "./api.js";
import { messagesOf, Turn } from "./conversation.js";
import { Panel } from "./panel.js";
import { firstLanguage, number, rememberLanguage, TEXTS } from "./texts.js";
import { TurnView } from "./turn-view.js";

// "ended": the server is told that the answer was stopped, and frees its place.
const POLL_MS = { busy: 1_000, ready: 5_000, ended: 150 };
const DRAW_MS = 50;
const NEAR_END_PX = 80;

const byId = (id) => document.getElementById(id);
const [log, question, send, stop] = ["log", "question", "send", "stop"].map(byId);
const panel = new Panel();

let language = firstLanguage();
let health = { state: "unknown" };
let views = [];
let running = null; // the AbortController of the answer that comes in
let pollTimer = null;
let drawTimer = null;

// --- the conversation ---------------------------------------------------------------------------

function ask(text) {
  const view = new TurnView(
    new Turn(text),
    () => answer(view),
    () => edit(view),
  );
  views.push(view);
  byId("welcome").hidden = true;
  log.append(view.root);
  answer(view);
}

/** Has the last question answered, or answered again. */
async function answer(view) {
  if (running || view !== views.at(-1)) return;
  const controller = new AbortController();
  running = controller;
  const { turn } = view;
  turn.begin();
  refresh(view);
  scrollToEnd();
  showButtons();
  question.focus();
  poll();
  try {
    const messages = messagesOf(views.map(({ turn }) => turn));
    for await (const chunk of streamChat(messages, controller.signal)) {
      if (running === controller) take(view, chunk);
    }
    turn.end("done");
  } catch (error) {
    if (error.name === "AbortError") turn.end("stopped");
    else turn.end("error", error);
  }
  if (running !== controller) return; // a new chat has begun
  running = null;
  clearTimeout(drawTimer);
  drawTimer = null;
  const follow = nearEnd();
  refresh(view);
  if (follow) scrollToEnd();
  showButtons();
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, POLL_MS.ended);
}

/** Takes the last question back into the field, before what was begun there. */
function edit(view) {
  if (running || view !== views.at(-1)) return;
  views.pop();
  view.root.remove();
  question.value = [view.turn.question, question.value].filter(Boolean).join("\n");
  fitQuestion();
  question.focus();
  const last = views.at(-1);
  byId("welcome").hidden = last !== undefined;
  if (last) refresh(last);
  else panel.showTurn(undefined, health, language, TEXTS[language]);
}

/** Laying out a long text takes time: once for many chunks, so that the page answers meanwhile. */
function take(view, chunk) {
  view.turn.take(chunk);
  drawTimer ??= setTimeout(draw, DRAW_MS, view);
}

function draw(view) {
  drawTimer = null;
  if (!view.turn.running || view !== views.at(-1)) return; // shown already, or gone
  const follow = nearEnd();
  view.grow(language, TEXTS[language]);
  showFigures(view.turn);
  if (follow) scrollToEnd();
}

function newChat() {
  running?.abort();
  running = null;
  clearTimeout(drawTimer);
  drawTimer = null;
  for (const view of views) view.root.remove();
  views = [];
  byId("welcome").hidden = false;
  panel.showTurn(undefined, health, language, TEXTS[language]);
  showButtons();
  question.focus();
}

function submit() {
  const text = question.value.trim();
  if (running || text === "") return;
  question.value = "";
  fitQuestion();
  ask(text);
}

// --- what is shown ------------------------------------------------------------------------------

function refresh(view) {
  view.refresh(language, TEXTS[language]);
  for (const other of views) other.again.hidden = other !== views.at(-1);
  if (view === views.at(-1)) panel.showTurn(view.turn, health, language, TEXTS[language]);
}

function showButtons() {
  send.hidden = running !== null;
  stop.hidden = running === null;
  if (running === null) byId("live-speed").textContent = "";
}

function showFigures(turn) {
  const texts = TEXTS[language];
  const text = turn.speed ? texts.perSecond(number(language, turn.speed, 1)) : "";
  byId("live-speed").textContent = text;
  panel.showTurn(turn, health, language, texts);
}

function nearEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
}

function scrollToEnd() {
  log.scrollTop = log.scrollHeight;
}

/** The field grows with its text, as far as the style lets it. */
function fitQuestion() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

function showLanguage() {
  const texts = TEXTS[language];
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = texts[node.dataset.text];
  }
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", texts[node.dataset.label]);
  }
  question.placeholder = texts.placeholder;
  for (const button of document.querySelectorAll("[data-lang]")) {
    button.setAttribute("aria-pressed", String(button.dataset.lang === language));
  }
  panel.showHealth(health, language, texts);
  for (const view of views) refresh(view);
  panel.showTurn(views.at(-1)?.turn, health, language, texts);
}

// --- the model's state --------------------------------------------------------------------------

/** Asks now, and again and again: often while something is to be seen. */
async function poll() {
  clearTimeout(pollTimer);
  const mine = (pollTimer = setTimeout(poll, POLL_MS.ready));
  const found = await fetchHealth();
  if (mine !== pollTimer) return; // asked again in between
  clearTimeout(pollTimer);
  // Who is not reachable is still the model that was there.
  health = found.state === "offline" ? { ...health, progress: null, ...found } : found;
  panel.showHealth(health, language, TEXTS[language]);
  if (document.hidden) return;
  const quiet = health.state === "ready" && !running && !health.active_requests;
  pollTimer = setTimeout(poll, quiet ? POLL_MS.ready : POLL_MS.busy);
}

// --- wiring -------------------------------------------------------------------------------------

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
question.addEventListener("input", fitQuestion);
question.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter is its key.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) running?.abort();
});
stop.addEventListener("click", () => {
  running?.abort();
  question.focus();
});
byId("new-chat").addEventListener("click", newChat);
for (const idea of document.querySelectorAll(".idea")) {
  idea.addEventListener("click", () => {
    question.value = idea.textContent;
    fitQuestion();
    question.focus();
  });
}
for (const button of document.querySelectorAll("[data-lang]")) {
  button.addEventListener("click", () => {
    language = button.dataset.lang;
    rememberLanguage(language);
    showLanguage();
  });
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

showLanguage();
poll();
