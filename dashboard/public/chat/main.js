// Begins the chat page: opens the store, goes on with what was being answered, draws.

import { effect } from "@preact/signals";
import { render } from "preact";

import { MemoryStore, openStore, StoreError } from "../data/store.js";
import { call, fetchHealth, responseEvents } from "../shared/api.js";
import { html } from "../shared/html.js";
import { applyTheme } from "../shared/theme.js";
import { Chat } from "./chat.js";
import { followHealth } from "./health.js";
import { listenToKeys } from "./keyboard.js";
import { PageProvider, Ui } from "./ui.js";
import { App } from "./views/app.js";

const HASH = /^#([0-9a-zA-Z-]{8,64})$/;

async function begin() {
  applyTheme();
  const ui = new Ui();
  document.documentElement.lang = ui.language.value;
  const { store, problem } = await storeOrMemory();
  const chat = new Chat({ store, api: { events: responseEvents, call } });
  if (problem) chat.notice.value = { code: problem.code };
  const session = await call("api/session").catch(() => null);
  const signOut = async () => {
    await call("api/session", { method: "DELETE" });
    location.assign("login.html");
  };
  await openAddressed(chat);
  const page = { chat, ui, session, signOut };
  render(html`<${PageProvider} value=${page}><${App} /><//>`, document.getElementById("app"));
  listenToKeys(chat, ui);
  const ask = followHealth(chat.health, fetchHealth, () => chat.running.peek() !== null);
  effect(() => {
    chat.running.value; // what is at work has changed
    ask();
  });
  effect(() => address(chat.current.value));
  addEventListener("hashchange", () => openAddressed(chat));
  await chat.begin();
}

/** Where the browser keeps nothing, the page works without, and says so. */
async function storeOrMemory() {
  try {
    return { store: await openStore() };
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    return { store: new MemoryStore(), problem: error };
  }
}

/** Opens the conversation that the address names; one that is gone is nothing to open. */
async function openAddressed(chat) {
  const id = HASH.exec(location.hash)?.[1] ?? null;
  if (id === (chat.current.value?.id ?? null)) return;
  if (!(await chat.open(id))) await chat.open(null);
}

/** A reload, and the browser's way back, find the conversation by the address. */
function address(conversation) {
  const hash = conversation === null ? "" : `#${conversation.id}`;
  if (location.hash === hash) return;
  history.pushState(null, "", hash || location.pathname);
  document.title = conversation?.title ? `${conversation.title} · SHEILY` : "SHEILY";
}

begin();
