// Nodes that become others with as little change as may be, so that what a person has selected,
// scrolled or focused in them stays.

/** Makes the children of `old` those of `next`, which is used up. */
export function takeChildren(old, next) {
  const wanted = [...next.childNodes];
  let present = old.firstChild;
  for (const node of wanted) {
    const following = present?.nextSibling ?? null;
    if (present === null) old.append(node);
    else if (!take(present, node)) present.replaceWith(node);
    present = following;
  }
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

/** Makes `old` the same as `next`; false where it cannot be. */
function take(old, next) {
  if (old.nodeName !== next.nodeName) return false;
  if (old.nodeType === Node.TEXT_NODE) {
    takeText(old, next.data);
    return true;
  }
  if (old.className !== next.className) return false;
  if (old.classList.contains("code")) return takeCode(old, next);
  // What scrolls has attributes that come and go with its width.
  if (!old.classList.contains("scrolls")) takeAttributes(old, next);
  takeChildren(old, next);
  return true;
}

/** Code keeps its button, and its colours until it is coloured anew. */
function takeCode(old, next) {
  if (old.dataset.language !== next.dataset.language) return false;
  const code = old.querySelector("code");
  const before = code.textContent;
  const text = next.querySelector("code").textContent;
  if (before === "" || !text.startsWith(before)) code.textContent = text;
  else if (code.lastChild.nodeType !== Node.TEXT_NODE) code.append(text.slice(before.length));
  else code.lastChild.appendData(text.slice(before.length));
  return true;
}

function takeText(old, text) {
  if (text === old.data) return;
  if (text.startsWith(old.data)) old.appendData(text.slice(old.length));
  else old.data = text;
}

function takeAttributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}
