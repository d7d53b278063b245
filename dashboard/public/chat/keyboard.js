// The keys that work anywhere on the page.

import { copyText } from "../shared/copy.js";

/** Has keys do what the list of keys says; `chat` and `ui` are the page's. */
export function listenToKeys(chat, ui) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented) return;
    const action = actionOf(event, chat, ui);
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
}

function actionOf(event, chat, ui) {
  const { key, altKey, shiftKey } = event;
  const ctrl = event.ctrlKey || event.metaKey;
  if (key === "Escape") return escaped(chat, ui);
  if (ui.dialog.value !== null) return undefined;
  if (ctrl && !altKey) {
    const lower = key.toLowerCase();
    if (lower === "k" && !shiftKey) return () => focusSearch(ui);
    if (lower === "b" && !shiftKey) return () => (ui.sidebar.value = !ui.sidebar.value);
    if (lower === "o" && shiftKey) return () => begin(chat);
    if (lower === "c" && shiftKey) return () => copyLast(chat, ui);
    if (lower === ",") return () => (ui.dialog.value = { name: "settings" });
    return undefined;
  }
  if (altKey && (key === "ArrowUp" || key === "ArrowDown")) {
    return () => move(chat, key === "ArrowUp" ? -1 : 1);
  }
  if (key === "?" && !isField(event.target)) return () => (ui.dialog.value = { name: "keys" });
  return undefined;
}

/** The nearest thing that can be left: a dialog leaves by itself, then the search, the answer. */
function escaped(chat, ui) {
  if (ui.dialog.value !== null) return undefined;
  if (ui.query.value !== "") return () => leaveSearch(ui);
  if (chat.running.value !== null) return () => chat.stop();
  if (ui.sidebar.value) return () => ui.leaveSidebar();
  return undefined;
}

function leaveSearch(ui) {
  ui.query.value = "";
  focusQuestion();
}

function focusSearch(ui) {
  ui.sidebar.value = true;
  requestAnimationFrame(() => document.getElementById("search").focus());
}

async function begin(chat) {
  await chat.open(null);
  focusQuestion();
}

async function copyLast(chat, ui) {
  const text = chat.last.value?.text;
  if (!text) return;
  const { copied, copyFailed } = ui.words.value;
  ui.say((await copyText(text)) ? copied : copyFailed);
}

async function move(chat, step) {
  const ids = chat.conversations.value.map(({ id }) => id);
  if (ids.length === 0) return;
  const i = ids.indexOf(chat.current.value?.id);
  const to = i === -1 ? 0 : Math.min(ids.length - 1, Math.max(0, i + step));
  await chat.open(ids[to]);
}

/** `?` is a letter in a field; in the empty field for the question it asks for the keys. */
function isField(target) {
  if (target.id === "question" && target.value === "") return false;
  return target.matches?.("input, textarea, select, [contenteditable]") ?? false;
}

function focusQuestion() {
  document.getElementById("question").focus();
}
