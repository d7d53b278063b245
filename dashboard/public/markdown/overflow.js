// Code and tables that are wider than the page: where one scrolls, the keyboard reaches it and a
// screen reader names it.

export class Overflow {
  constructor() {
    this._seen = new WeakSet();
    this._observer = new ResizeObserver((entries) => {
      for (const frame of new Set(entries.map(({ target }) => target.closest(".scrolls")))) {
        if (frame) mark(frame);
      }
    });
  }

  /** Watches what may scroll in a node. */
  watch(node) {
    for (const frame of node.querySelectorAll(".scrolls")) {
      for (const each of [frame, frame.firstElementChild]) {
        if (this._seen.has(each)) continue;
        this._seen.add(each);
        this._observer.observe(each);
      }
    }
  }
}

/** Says what a frame is called where it scrolls. */
export function nameFrame(frame, name) {
  frame.dataset.label = name;
  if (frame.hasAttribute("aria-label")) frame.setAttribute("aria-label", name);
}

function mark(frame) {
  if (frame.scrollWidth <= frame.clientWidth) {
    for (const name of ["tabindex", "role", "aria-label"]) frame.removeAttribute(name);
    return;
  }
  frame.tabIndex = 0; // the arrow keys scroll it
  frame.setAttribute("role", "group"); // a region would be a landmark, one of many with one name
  frame.setAttribute("aria-label", frame.dataset.label);
}
