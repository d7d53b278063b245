// The page of metrics: which time is shown, what is now, and the panels. Asks samples.js for data.

import { firstLanguage } from "../shared/language.js";
import { applyTheme } from "../shared/theme.js";
import { gaps, growth, restarts, thin } from "./figures.js";
import { speedNow } from "./panels/generated.js";
import { PANELS } from "./panels.js";
import { element, PanelView, setText } from "./panel-view.js";
import { Samples } from "./samples.js";
import { Text } from "./text.js";
import { WORDS } from "./words.js";

// What is shown, in seconds; how much of it is one point of a line, and one bar.
const WINDOWS = [
  { shown: 300, pointS: 2, binS: 10 },
  { shown: 900, pointS: 6, binS: 30 },
  { shown: 3600, pointS: 20, binS: 120 },
];

const language = firstLanguage();
const words = WORDS[language];
const text = new Text(language);
const byId = (id) => document.getElementById(id);
const data = new Samples(() => show());
const panels = PANELS.map((panel) => new PanelView(panel, words, text));
let chosen = WINDOWS[0];

function build() {
  document.documentElement.lang = language;
  document.title = `${words.title} · SHEILY`;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = words[node.dataset.text];
  }
  byId("windows").setAttribute("aria-label", words.window);
  for (const each of WINDOWS) {
    const button = element("button", "", words.windows[each.shown]);
    button.type = "button";
    button.setAttribute("aria-pressed", String(each === chosen));
    button.addEventListener("click", () => choose(each));
    byId("windows").append(button);
  }
  byId("panels").append(...panels.map((panel) => panel.element));
}

function choose(wanted) {
  chosen = wanted;
  for (const [i, button] of [...byId("windows").children].entries()) {
    button.setAttribute("aria-pressed", String(WINDOWS[i] === wanted));
  }
  show();
}

function show() {
  const { samples, failure } = data;
  const last = samples.at(-1);
  byId("problem").hidden = failure === null;
  if (failure !== null) setText(byId("problem"), problemText(failure));
  const seenUp = samples.some(({ up }) => up);
  setText(byId("empty"), emptyText(samples, seenUp));
  byId("empty").hidden = byId("empty").textContent === "" || failure !== null;
  byId("panels").hidden = !seenUp;
  if (last === undefined) return;
  showNow(samples, last);
  const [from, to] = [data.clock / 1000 - chosen.shown, data.clock / 1000];
  const said = after(samples, from);
  showEvents(said, from, to);
  if (!seenUp) return;
  const drawn = thin(after(samples, from - 2 * chosen.binS), chosen.pointS);
  const seen = { samples: drawn, seen: said, bounds: data.bounds, binS: chosen.binS };
  const marks = { gaps: gaps(said, { from, to }), restarts: restarts(said), from, to };
  const look = `${document.documentElement.dataset.theme} ${isDark()}`;
  for (const panel of panels) {
    panel.show(seen, { samples: said, bounds: data.bounds }, marks, look);
  }
}

/** The samples from a time on, in seconds, and the one before: growth begins with that. */
function after(samples, from) {
  const first = samples.findIndex(({ t }) => t >= 1000 * from);
  return first === -1 ? samples.slice(-1) : samples.slice(Math.max(0, first - 1));
}

function problemText({ code, message }) {
  return code === "dashboard_unreachable" ? words.lost : words.wrong(message);
}

function emptyText(samples, seenUp) {
  if (samples.length === 0) return words.none;
  if (!seenUp) return words.neverUp;
  const last = samples.at(-1);
  const idle = last.up && last.tokens === 0 && Object.keys(last.requests).length === 0;
  return idle && !last.running ? words.idle : "";
}

function showNow(samples, last) {
  const state = last.up ? last.state : "away";
  byId("state").dataset.state = state;
  setText(byId("state"), words.states[state] ?? state);
  const speed = speedNow(samples);
  setText(byId("speed"), speed === null ? "–" : text.rate(speed));
  setText(byId("waiting"), Number.isFinite(last.queued) ? text.number(last.queued) : "–");
  setText(byId("cells-now"), last.cells ? text.share((last.cells_used ?? 0) / last.cells) : "–");
  setText(byId("restarts"), text.number(growth(samples, (each) => each.restarts)));
}

/** What is shaded or marked in the charts, in words. */
function showEvents(samples, from, to) {
  const lasting = (whiles) => whiles.reduce((sum, [begin, end]) => sum + end - begin, 0);
  const away = lasting(gaps(samples, { from, to }));
  const unseen = lasting(gaps(samples, { from, to, unseen: true }));
  const n = restarts(samples).length;
  const said = [];
  if (away > 0) said.push(words.away(text.number(away)));
  if (unseen > 0) said.push(words.unseen(text.number(unseen)));
  if (n > 0) said.push(words.restarted(n));
  setText(byId("events"), said.join(" "));
}

function isDark() {
  return getComputedStyle(document.documentElement).colorScheme === "dark";
}

applyTheme();
build();
data.follow();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
addEventListener("storage", () => {
  // The chat, in another tab, has the settings.
  if (firstLanguage() !== language) location.reload();
  applyTheme();
  show();
});
