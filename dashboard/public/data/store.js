// Where conversations are kept: IndexedDB in the browser, or memory where that keeps nothing. Knows
// records and transactions; nothing of what is in a message beside its id and its text.

import { searchIn } from "./search.js";

const VERSION = 1;
const CHANNEL = "sheily-data";

/** What the browser's storage cannot do; `code` says what. */
export class StoreError extends Error {
  constructor(code, message = code) {
    super(message);
    this.code = code;
  }
}

/** Opens the store. Throws StoreError: `storage_unavailable`, or `storage_newer` where a newer
 * version of the page has written it. */
export async function openStore({ name = "sheily", indexedDB = globalThis.indexedDB } = {}) {
  if (!indexedDB) throw new StoreError("storage_unavailable");
  let request;
  try {
    request = indexedDB.open(name, VERSION);
  } catch (error) {
    throw new StoreError("storage_unavailable", error.message);
  }
  request.onupgradeneeded = ({ oldVersion }) => upgrade(request.result, oldVersion);
  try {
    return new Store(await resultOf(request));
  } catch (error) {
    const code = error.name === "VersionError" ? "storage_newer" : "storage_unavailable";
    throw new StoreError(code, error.message);
  }
}

/** Each version's part; a store of any earlier one comes to the newest. */
function upgrade(db, from) {
  if (from < 1) {
    db.createObjectStore("conversations", { keyPath: "id" });
    const messages = db.createObjectStore("messages", { keyPath: "id" });
    for (const name of ["conversation", "outcome", "response"]) messages.createIndex(name, name);
    db.createObjectStore("settings");
  }
}

/** What both stores have; `_read` and `_change` are theirs. */
class Base {
  constructor() {
    this._channel = globalThis.BroadcastChannel ? new BroadcastChannel(CHANNEL) : null;
    // A channel keeps a program alive that is no page.
    this._channel?.unref?.();
  }

  /** Has `callback` called with `{ ids }` of conversations that another tab has changed. */
  onChange(callback) {
    this._channel?.addEventListener("message", ({ data }) => callback(data));
  }

  _tell(ids) {
    if (ids.length > 0) this._channel?.postMessage({ ids: [...new Set(ids)] });
  }

  /** Yields `{ conversation, message, snippet }` of titles and texts with `query` in them. */
  search(query, { signal, limit = 50 } = {}) {
    return searchIn(this, query, { signal, limit });
  }

  async usage() {
    const found = await globalThis.navigator?.storage?.estimate?.();
    return { used: found?.usage ?? 0, quota: found?.quota ?? 0 };
  }
}

class Store extends Base {
  constructor(db) {
    super();
    this._db = db;
    this._lost = false;
    this.kept = true;
    db.onclose = () => (this._lost = true);
    // Another tab wants to upgrade or delete the database: it must not wait for this one.
    db.onversionchange = () => {
      this._lost = true;
      db.close();
    };
  }

  async conversations() {
    const found = await this._read("conversations", (store) => store.getAll());
    return found.sort((a, b) => b.updated - a.updated);
  }

  async conversation(id) {
    return this._read("conversations", (store) => store.get(id));
  }

  async message(id) {
    return this._read("messages", (store) => store.get(id));
  }

  async messages(conversation) {
    return this._read("messages", (store) => store.index("conversation").getAll(conversation));
  }

  /** The answers that are being made, and those that the server has still to forget. */
  async unfinished() {
    const found = await Promise.all([
      this._read("messages", (store) => store.index("outcome").getAll("waiting")),
      this._read("messages", (store) => store.index("outcome").getAll("streaming")),
      this._read("messages", (store) => store.index("response").getAll()),
    ]);
    return [...new Map(found.flat().map((each) => [each.id, each])).values()];
  }

  /** Writes and removes all of it, or nothing. An answer that another tab follows too, and has
   * further, is left as it is; a message of a conversation that has been deleted does not come
   * back. */
  async write({ conversations = [], messages = [], removed = [] }) {
    await this._change(["conversations", "messages"], async (of) => {
      for (const each of conversations) of("conversations").put(each);
      for (const id of removed) of("messages").delete(id);
      const homes = [...new Set(messages.map(({ conversation }) => conversation))];
      const [there, kept] = await Promise.all([
        Promise.all(homes.map(async (id) => resultOf(of("conversations").getKey(id)))),
        Promise.all(messages.map(async ({ id }) => resultOf(of("messages").get(id)))),
      ]);
      const known = new Set(there);
      for (const [i, each] of messages.entries()) {
        if (known.has(each.conversation) && !isFurther(kept[i], each)) of("messages").put(each);
      }
    });
    // A growing answer alone is nothing that other tabs have to read again.
    this._tell(conversations.map(({ id }) => id));
  }

  async deleteConversation(id) {
    await this._change(["conversations", "messages"], async (of) => {
      of("conversations").delete(id);
      const keys = await resultOf(of("messages").index("conversation").getAllKeys(id));
      for (const key of keys) of("messages").delete(key);
    });
    this._tell([id]);
  }

  async deleteAll() {
    let ids;
    await this._change(["conversations", "messages"], async (of) => {
      ids = await resultOf(of("conversations").getAllKeys());
      of("conversations").clear();
      of("messages").clear();
    });
    this._tell(ids);
  }

  async setting(key) {
    return this._read("settings", (store) => store.get(key));
  }

  async writeSetting(key, value) {
    await this._change(["settings"], async (of) => of("settings").put(value, key));
  }

  close() {
    this._db.close();
    this._channel?.close();
  }

  async _read(name, request) {
    return this._guarded(async () => {
      const transaction = this._db.transaction(name, "readonly");
      return resultOf(request(transaction.objectStore(name)));
    });
  }

  /** Has `change` make its requests in one transaction. That is durable as the browser does it by
   * itself, which is relaxed: a crash of the page loses nothing, only one of the machine might, and
   * a growing answer is written too often to wait for the disk each time. */
  async _change(names, change) {
    return this._guarded(async () => {
      const transaction = this._db.transaction(names, "readwrite");
      const changed = change((name) => transaction.objectStore(name)).catch((error) => {
        throw undo(transaction) ?? error;
      });
      await Promise.all([endOf(transaction), changed]);
    });
  }

  async _guarded(work) {
    try {
      return await work();
    } catch (error) {
      if (error.name === "QuotaExceededError") throw new StoreError("storage_full", error.message);
      if (this._lost || error.name === "InvalidStateError") {
        throw new StoreError("storage_lost", error.message);
      }
      throw new StoreError("storage_failed", `${error.name}: ${error.message}`);
    }
  }
}

/** The same for a page whose browser keeps nothing: all is gone with the page. */
export class MemoryStore extends Base {
  constructor() {
    super();
    this.kept = false;
    this._channel?.close();
    this._channel = null; // other tabs cannot see what is here
    this._conversations = new Map();
    this._messages = new Map();
    this._settings = new Map();
  }

  async conversations() {
    return [...this._conversations.values()].sort((a, b) => b.updated - a.updated);
  }

  async conversation(id) {
    return this._conversations.get(id);
  }

  async message(id) {
    return this._messages.get(id);
  }

  async unfinished() {
    return [...this._messages.values()].filter((each) => isRunning(each) || each.response);
  }

  async messages(conversation) {
    return [...this._messages.values()].filter((each) => each.conversation === conversation);
  }

  async write({ conversations = [], messages = [], removed = [] }) {
    for (const each of conversations) this._conversations.set(each.id, each);
    for (const each of messages) {
      if (this._conversations.has(each.conversation)) this._messages.set(each.id, each);
    }
    for (const id of removed) this._messages.delete(id);
  }

  async deleteConversation(id) {
    this._conversations.delete(id);
    for (const each of await this.messages(id)) this._messages.delete(each.id);
  }

  async deleteAll() {
    this._conversations.clear();
    this._messages.clear();
  }

  async setting(key) {
    return this._settings.get(key);
  }

  async writeSetting(key, value) {
    this._settings.set(key, value);
  }

  close() {}
}

/** Whether `kept` is the same try of an answer as `given`, and has more of it. */
function isFurther(kept, given) {
  if (kept?.asked === undefined || kept.asked !== given.asked) return false;
  if (kept.sequence !== given.sequence) return kept.sequence > given.sequence;
  return !isRunning(kept) && isRunning(given);
}

function isRunning({ outcome }) {
  return outcome === "waiting" || outcome === "streaming";
}

function resultOf(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Takes back what a transaction has written so far; why it had ended before, if it had. */
function undo(transaction) {
  try {
    transaction.abort();
    return null;
  } catch {
    return transaction.error;
  }
}

function endOf(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new DOMException("", "AbortError"));
  });
}
