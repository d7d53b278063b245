// The state of the page as signals, and what can be done with conversations. Knows the store, the
// answers and the server's health; nothing of how any of it looks.

import { batch, computed, signal } from "@preact/signals";

import { newId } from "../data/ids.js";
import { cleanTitle, inputOf, titleOf } from "../data/messages.js";
import { Tree } from "../data/tree.js";
import { documentsPrompt, fitDocuments } from "../documents/fit.js";
import { Answers } from "./answers.js";
import { fieldsOf } from "../data/options.js";
import { contextOf, isRunning, newAnswer } from "./reading.js";

const ANSWER_SHARE = 0.25; // of the context, which documents leave to the answer
const ANSWER_TOKENS = 1024; // and at most so many
const TEMPLATE_TOKENS = 64; // markers of the template, and the date

export class Chat {
  /** `store` keeps conversations, `api` is `{ events, call }`; `now` is milliseconds. */
  constructor({ store, api, now = Date.now }) {
    this._store = store;
    this._api = api;
    this._now = now;
    this._active = new Map(); // conversation -> ids of its answers that are being made
    this._changing = Promise.resolve();
    this._messages = new Map(); // of the open conversation: id -> signal
    this._tree = new Tree([]);
    this._answers = new Answers({
      api,
      store,
      now,
      onChange: (answer) => this._answered(answer),
      onTrouble: ({ code, message }) => (this.notice.value = { code, message }),
    });
    this.kept = store.kept !== false; // false where the browser keeps nothing
    this.health = signal({ state: "unknown" });
    this.conversations = signal([]);
    this.current = signal(null);
    this.path = signal([]); // the ids of the messages that are shown
    this.runningIn = signal(new Set()); // ids of conversations with an answer that is being made
    this.defaults = signal({}); // options of new conversations
    this.presets = signal({}); // a person's own
    this.preparing = signal(false); // documents are being fitted
    this.notice = signal(null); // { code, ... }: what is said once
    this.last = computed(() => this._lastAnswer());
    this.running = computed(() => {
      const last = this.last.value;
      return last !== null && isRunning(last) ? last : null;
    });
    store.onChange?.((change) => this._changedElsewhere(change));
  }

  // --- conversations ----------------------------------------------------------------------------

  /** Reads the list, and goes on with every answer that was being made when the page was closed. */
  async begin() {
    this.defaults.value = (await this._store.setting("defaults")) ?? {};
    this.presets.value = (await this._store.setting("presets")) ?? {};
    await this._list();
    const left = await this._store.unfinished();
    for (const id of new Set(left.map(({ conversation }) => conversation))) {
      const messages = await this._store.messages(id);
      this._followAll(new Tree(messages), messages);
    }
    // What ended just before the page was closed.
    for (const answer of left) {
      if (!isRunning(answer)) await this._answers.forget(answer);
    }
  }

  async _list() {
    this.conversations.value = await this._store.conversations();
  }

  _followAll(tree, messages) {
    for (const answer of messages) {
      if (answer.role !== "assistant" || !isRunning(answer)) continue;
      const request = answer.response === null ? this._request(tree, answer) : null;
      this._run(answer, request);
    }
  }

  /** Shows a conversation; null shows an empty one that begins with its first question. */
  async open(id) {
    if (id === null) {
      this._show(null, []);
      return true;
    }
    const conversation = await this._store.conversation(id);
    if (!conversation) return false;
    const messages = await this._store.messages(id);
    // A running answer is further here than in the store.
    this._show(
      conversation,
      messages.map((each) => this._answers.get(each.id) ?? each),
    );
    // Another tab has asked: it is followed here too.
    this._followAll(this._tree, messages);
    return true;
  }

  _show(conversation, messages) {
    batch(() => {
      this._tree = new Tree(messages);
      this._messages = new Map(messages.map((each) => [each.id, signal(each)]));
      this.current.value = conversation;
      this._showPath();
    });
  }

  _showPath() {
    const leaf = this.current.value?.leaf ?? null;
    this.path.value = leaf === null ? [] : this._tree.path(leaf).map((each) => each.id);
  }

  /** The signal of a message of the open conversation. */
  message(id) {
    return this._messages.get(id);
  }

  /** The ids of the versions of a message: of an answer asked again, of a question edited. */
  versions(id) {
    return this._tree.siblings(id).map((each) => each.id);
  }

  async rename(id, title) {
    const cleaned = cleanTitle(title);
    if (cleaned !== "") await this._change(id, { title: cleaned, named: true });
  }

  async remove(id) {
    for (const answer of this._runningOf(id)) await this._answers.stop(answer);
    await this._store.deleteConversation(id);
    await this._list();
    if (this.current.value?.id === id) await this.open(null);
  }

  async removeAll() {
    for (const { id } of this.conversations.value) {
      for (const answer of this._runningOf(id)) await this._answers.stop(answer);
    }
    await this._store.deleteAll();
    await this._list();
    await this.open(null);
  }

  async setOptions(options) {
    const { value } = this.current;
    if (value !== null) await this._change(value.id, { options });
    else this.fresh = options;
  }

  /** The options of what is shown. */
  options() {
    return this.current.value?.options ?? this.fresh ?? this.defaults.value;
  }

  async setDefaults(options) {
    this.defaults.value = options;
    await this._store.writeSetting("defaults", options);
  }

  async setPresets(presets) {
    this.presets.value = presets;
    await this._store.writeSetting("presets", presets);
  }

  async add({ conversations, messages }) {
    await this._store.write({ conversations, messages });
    await this._list();
  }

  search(query, options) {
    return this._store.search(query, options);
  }

  /** `{ used, quota }` in bytes, as far as the browser says. */
  usage() {
    return this._store.usage();
  }

  /** Everything that is kept, to be exported; of one conversation if `id` says which. */
  async all(id = null) {
    const conversations = id === null ? await this._store.conversations() : [];
    if (id !== null) conversations.push(await this._store.conversation(id));
    const messages = new Map();
    for (const each of conversations) messages.set(each.id, await this._store.messages(each.id));
    return { conversations, messages };
  }

  async _change(id, fields) {
    await this._alone(async () => {
      const found = await this._store.conversation(id);
      if (!found) return;
      const changed = { ...found, ...fields };
      await this._store.write({ conversations: [changed] });
      if (this.current.value?.id === id) this.current.value = changed;
    });
    await this._list();
  }

  /** One change of a conversation after the other: each begins with what the last has written. */
  _alone(change) {
    const next = this._changing.then(change);
    this._changing = next.catch(() => {});
    return next;
  }

  // --- questions and answers --------------------------------------------------------------------

  /** Asks in the open conversation, or begins one. Throws ServerError where documents cannot be
   * counted; nothing has changed then. */
  async ask(text, documents = []) {
    const parent = this.current.value?.leaf ?? null;
    await this._askBelow(parent, text, await this._prompt(text, documents));
  }

  /** Asks an edited question in the place of message `id`; what was said below it stays there, as
   * another version. */
  async edit(id, text) {
    const { parent, documents } = this._messages.get(id).value;
    await this._askBelow(parent, text, this._again(text, documents));
  }

  async _askBelow(parent, text, prompt) {
    const now = this._now();
    const conversation = this.current.value ?? {
      id: newId(),
      title: titleOf(text || prompt.documents?.[0]?.name || ""),
      named: false,
      created: now,
      options: this.options(),
    };
    this.fresh = undefined;
    const question = {
      id: newId(),
      conversation: conversation.id,
      parent,
      role: "user",
      created: now,
      text,
      ...prompt,
    };
    await this._answer(conversation, question, this._blank(conversation, question.id));
  }

  /** Has the question above answer `id` answered once more, beside that answer. An answer without
   * any text is replaced. */
  async again(id) {
    const old = this._messages.get(id).value;
    const conversation = this.current.value;
    const empty = old.text === "";
    const blank = this._blank(conversation, old.parent);
    const answer = empty ? { ...blank, id, key: old.key ?? blank.key } : blank;
    await this._answer(conversation, null, answer);
  }

  /** Has answer `id` go on behind its text. */
  async goOn(id) {
    const old = this._messages.get(id).value;
    const blank = this._blank(this.current.value, old.parent, old.text);
    await this._answer(this.current.value, null, { ...blank, id, created: old.created });
  }

  stop() {
    const { value } = this.running;
    return value === null ? null : this._answers.stop(value.id);
  }

  /** Shows another version of a message, with the newest of what was said below it. */
  async showVersion(id) {
    await this._change(this.current.value.id, { leaf: this._tree.newestLeaf(id) });
    this._showPath();
  }

  _blank(conversation, parent, base = "") {
    return newAnswer({
      id: newId(),
      key: newId(),
      conversation: conversation.id,
      parent,
      options: conversation.options,
      base,
      now: this._now(),
    });
  }

  /** Keeps what is asked before anybody is asked, so that a reload finds it. */
  async _answer(conversation, question, answer) {
    const messages = question ? [question, answer] : [answer];
    const shown = this.current.value?.id ?? null;
    await this._alone(async () => {
      const kept = (await this._store.conversation(conversation.id)) ?? conversation;
      const changed = { ...kept, leaf: answer.id, updated: this._now() };
      await this._store.write({ conversations: [changed], messages });
      // Somebody may have turned to another conversation meanwhile.
      if ((this.current.value?.id ?? null) !== shown) return;
      batch(() => {
        for (const message of messages) this._take(message);
        this.current.value = changed;
        this._showPath();
      });
    });
    const tree =
      this.current.value?.id === conversation.id
        ? this._tree
        : new Tree(await this._store.messages(conversation.id));
    this._run(answer, this._request(tree, answer));
    await this._list();
  }

  _take(message) {
    if (this._tree.get(message.id)) this._tree.replace(message);
    else this._tree.add(message);
    const known = this._messages.get(message.id);
    if (known) known.value = message;
    else this._messages.set(message.id, signal(message));
  }

  _request(tree, answer) {
    const asked = tree.path(answer.parent);
    const path = answer.base === "" ? asked : [...asked, { ...answer, text: answer.base }];
    const { items } = inputOf(path);
    const request = { input: items, truncation: "auto", ...fieldsOf(answer.options) };
    return answer.base === "" ? request : { ...request, continue_final_message: true };
  }

  async _run(answer, request) {
    const { conversation } = answer;
    if (this._answers.has(answer.id)) return;
    this._setRunning(conversation, answer.id, true);
    try {
      await this._answers.run(answer, request);
    } catch (error) {
      this.notice.value = { code: error.code ?? "internal_error", message: error.message };
      throw error;
    } finally {
      this._setRunning(conversation, answer.id, false);
    }
  }

  _runningOf(conversation) {
    return [...(this._active.get(conversation) ?? [])];
  }

  _setRunning(conversation, answer, runs) {
    const ids = this._active.get(conversation) ?? new Set();
    if (runs) ids.add(answer);
    else ids.delete(answer);
    if (ids.size > 0) this._active.set(conversation, ids);
    else this._active.delete(conversation);
    this.runningIn.value = new Set(this._active.keys());
  }

  _answered(answer) {
    if (this.current.value?.id === answer.conversation) this._take(answer);
  }

  // --- documents --------------------------------------------------------------------------------

  /** The fields of a question with documents: what fits of them, and the text for the model. */
  async _prompt(text, documents) {
    if (documents.length === 0) return {};
    this.preparing.value = true;
    try {
      const count = (content) => this._count(content);
      const budget = await this._budget(text);
      const fitted = await fitDocuments(documents, budget, count);
      const shown = fitted.map(({ name, text, tokens, pages, cut, share }, i) => {
        return { name, kind: documents[i].kind, text, tokens, pages, cut, share };
      });
      return { documents: shown, prompt: documentsPrompt(fitted, text) };
    } finally {
      this.preparing.value = false;
    }
  }

  _again(text, documents = []) {
    return documents.length ? { documents, prompt: documentsPrompt(documents, text) } : {};
  }

  async _budget(text) {
    const { context_size: size } = this.health.value;
    const { system = "", max_output_tokens: wanted = ANSWER_TOKENS } = this.options();
    const answer = Math.min(wanted, ANSWER_TOKENS, Math.floor(ANSWER_SHARE * size));
    const said = await this._count(`${system}\n${text}`);
    return Math.max(0, size - answer - said - TEMPLATE_TOKENS);
  }

  async _count(content) {
    const body = { content };
    const { count } = await this._api.call("api/tokens", { method: "POST", body });
    return count;
  }

  // --- what is shown beside ---------------------------------------------------------------------

  _lastAnswer() {
    const id = this.path.value.at(-1);
    const message = id === undefined ? undefined : this._messages.get(id)?.value;
    return message?.role === "assistant" ? message : null;
  }

  /** Tokens of the context that are used: by the last answer that knows. */
  contextUsed() {
    for (const id of [...this.path.value].reverse()) {
      const message = this._messages.get(id).value;
      if (message.role !== "assistant") continue;
      const used = contextOf(message);
      if (used !== null) return used;
    }
    return null;
  }

  async _changedElsewhere() {
    await this._list();
    const open = this.current.value;
    if (open === null) return;
    if (this._runningOf(open.id).length > 0) return; // this tab is further itself
    if (!(await this.open(open.id))) await this.open(null);
  }
}
