// The messages of a conversation as a tree: each has the one before it as its parent, and versions of
// a message are children of one parent. Pure, and without recursion: conversations are long.

export class Tree {
  /** Messages in any order. One whose parent is missing begins a branch of its own, a circle is
   * cut, and of two with one id the first counts. */
  constructor(messages) {
    this._byId = new Map();
    this._roots = new Set(); // ids of those that have no parent here
    this._children = new Map([[null, []]]);
    for (const message of messages) {
      if (!this._byId.has(message.id)) this._byId.set(message.id, message);
    }
    const cut = circular(this._byId);
    for (const message of this._byId.values()) {
      const known = this._byId.has(message.parent) && !cut.has(message.id);
      this._attach(message, known ? message.parent : null);
    }
    for (const children of this._children.values()) children.sort(byAge);
  }

  get size() {
    return this._byId.size;
  }

  get(id) {
    return this._byId.get(id);
  }

  add(message) {
    if (this._byId.has(message.id)) throw new RangeError(`message ${message.id} is there already`);
    const known = this._byId.has(message.parent); // and so is not the message itself
    this._byId.set(message.id, message);
    this._attach(message, known ? message.parent : null);
  }

  /** Puts a message in the place of the one with its id. */
  replace(message) {
    const old = this._byId.get(message.id);
    if (old === undefined) throw new RangeError(`there is no message ${message.id}`);
    this._byId.set(message.id, message);
    const siblings = this._children.get(this._parent(old));
    siblings[siblings.findIndex(({ id }) => id === message.id)] = message;
  }

  /** Removes a message with all below it; returns their ids. */
  remove(id) {
    const message = this._byId.get(id);
    if (message === undefined) return [];
    const siblings = this._children.get(this._parent(message));
    siblings.splice(siblings.indexOf(message), 1);
    const removed = [];
    const left = [message];
    while (left.length > 0) {
      const next = left.pop();
      removed.push(next.id);
      left.push(...(this._children.get(next.id) ?? []));
      this._byId.delete(next.id);
      this._children.delete(next.id);
      this._roots.delete(next.id);
    }
    return removed;
  }

  /** The messages from the first one to `leaf`; none where that is not known. */
  path(leaf) {
    const found = [];
    for (let id = leaf; id !== null && this._byId.has(id); ) {
      const message = this._byId.get(id);
      found.push(message);
      id = this._parent(message);
    }
    return found.reverse();
  }

  /** The messages of the same parent and role, in the order in which they were made. */
  siblings(id) {
    const message = this._byId.get(id);
    if (message === undefined) return [];
    const children = this._children.get(this._parent(message));
    return children.filter(({ role }) => role === message.role);
  }

  /** The id of the last message below `id`, by the newest child each time. */
  newestLeaf(id) {
    let leaf = id;
    for (let below = this._children.get(leaf); below?.length; below = this._children.get(leaf)) {
      leaf = below.at(-1).id;
    }
    return leaf;
  }

  _parent({ id, parent }) {
    return this._roots.has(id) ? null : parent;
  }

  _attach(message, parent) {
    if (parent === null) this._roots.add(message.id);
    const children = this._children.get(parent);
    if (children) children.push(message);
    else this._children.set(parent, [message]);
  }
}

function byAge(a, b) {
  return a.created - b.created;
}

/** The ids of messages of which one in each circle must begin a branch. */
function circular(byId) {
  const safe = new Set();
  const cut = new Set();
  for (const { id: begin } of byId.values()) {
    const walked = new Set();
    let id = begin;
    while (byId.has(id) && !safe.has(id) && !walked.has(id)) {
      walked.add(id);
      id = byId.get(id).parent;
    }
    if (walked.has(id)) cut.add(id);
    for (const each of walked) safe.add(each);
  }
  return cut;
}
