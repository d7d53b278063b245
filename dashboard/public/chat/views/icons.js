// The drawings of buttons: lines of one weight on a grid of 24.

import { html } from "../../shared/html.js";

const PATHS = {
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  plus: ["M12 5v14", "M5 12h14"],
  search: ["M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14", "M16 16l4 4"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  more: ["M6 12h.01", "M12 12h.01", "M18 12h.01"],
  copy: ["M9 9h10v10H9z", "M5 15V5h10"],
  done: ["M5 13l4 4L19 7"],
  again: ["M4 12a8 8 0 0 1 14-5l2 2", "M20 4v5h-5", "M20 12a8 8 0 0 1-14 5l-2-2", "M4 20v-5h5"],
  edit: ["M4 20l1-4L16 5l3 3L8 19z"],
  left: ["M14 6l-6 6l6 6"],
  right: ["M10 6l6 6l-6 6"],
  down: ["M12 5v14", "M6 13l6 6l6-6"],
  go: ["M5 5l7 7l-7 7", "M12 5l7 7l-7 7"],
  clip: ["M8 12l5-5a3 3 0 0 1 5 5l-7 7a5 5 0 0 1-7-7l7-7"],
  gear: [
    "M12 9a3 3 0 1 0 0 6a3 3 0 0 0 0-6",
    "M12 3v3", "M12 18v3", "M3 12h3", "M18 12h3",
    "M5.6 5.6l2.2 2.2", "M16.2 16.2l2.2 2.2", "M5.6 18.4l2.2-2.2", "M16.2 7.8l2.2-2.2",
  ],
  chart: ["M4 20V4", "M4 20h16", "M8 16v-4", "M12 16V8", "M16 16v-6"],
  keys: ["M3 7h18v10H3z", "M7 11h.01", "M11 11h.01", "M15 11h.01", "M8 14h8"],
  file: ["M6 3h8l4 4v14H6z", "M14 3v4h4"],
  out: ["M10 5H5v14h5", "M14 8l4 4l-4 4", "M9 12h9"],
};

export function Icon({ name }) {
  return html`<svg
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    stroke-width="1.75"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    ${PATHS[name].map((d) => html`<path d=${d} />`)}
  </svg>`;
}
