// The page of metrics: asks the backend for samples, and shows them as charts and sentences.

import { call } from "../shared/api.js";
import { firstLanguage, number } from "../shared/language.js";
import { applyTheme } from "../shared/theme.js";
import { Chart } from "./chart.js";
import { gaps, growth, restarts, window as windowOf } from "./figures.js";
import { PANELS, secondsText, speedNow } from "./panels.js";
import { WORDS } from "./words.js";

const POINTS = 240; // of a chart
const KEPT_MS = 60 * 60 * 1000;
const POLL_MS = 2_000;

const language = firstLanguage();
const words = WORDS[language];
const write = (value, digits = 0) => number(language, value, digits);
const byId = (id) => document.getElementById(id);

let samples = [];
let bounds = [];
let seconds = 300;
let charts = new Map();
let failed = false;
let clock = 0; // of the backend
let polling = null;

// --- the page -------------------------------------------------------------------------------------

function build() {
  document.documentElement.lang = language;
  document.title = `${words.title} · SHEILY`;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = words[node.dataset.text];
  }
  byId("windows").setAttribute("aria-label", words.window);
  for (const value of Object.keys(words.windows)) {
    const button = element("button", "", words.windows[value]);
    button.type = "button";
    button.addEventListener("click", () => choose(Number(value)));
    button.dataset.seconds = value;
    byId("windows").append(button);
  }
  for (const { id } of PANELS) {
    const panel = element("section", "panel");
    panel.id = id;
    const chart = element("div", "chart");
    panel.append(element("h2", "", words.panels[id]), element("p", "says"), chart);
    byId("panels").append(panel);
    charts.set(id, new Chart(chart));
  }
  choose(seconds);
}

function choose(value) {
  seconds = value;
  for (const button of document.querySelectorAll("[data-seconds]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.seconds) === value));
  }
  show();
}

function show() {
  const last = samples.at(-1);
  byId("problem").hidden = !failed;
  byId("empty").hidden = failed || last !== undefined;
  byId("panels").hidden = last === undefined;
  if (last === undefined) return;
  const shown = windowOf(samples, clock, seconds, POINTS);
  const all = samples.filter(({ t }) => t >= clock - 1000 * seconds);
  showNow(last);
  showEvents(all);
  const marks = {
    gaps: gaps(all),
    restarts: restarts(all),
    from: clock / 1000 - seconds,
    to: clock / 1000,
  };
  for (const panel of PANELS) {
    const seen = { samples: shown, bounds };
    const drawn = panel.draw(seen);
    const names = [words.series.time, ...drawn.series.map((each) => words.series[each.name] ?? "")];
    charts.get(panel.id).show(drawn, marks, {
      names,
      time: timeText,
      format: (value, whole) => (whole || value >= 100 ? write(value) : trim(value, 1)),
      labelText: (bound) => secondsText(bound, words, trim),
      key: `${document.documentElement.dataset.theme} ${isDark()}`,
    });
    setText(byId(panel.id).querySelector(".says"), panel.say(seen, { words, number: write }));
  }
}

function showNow(last) {
  const state = last.up ? last.state : "away";
  byId("state").dataset.state = state;
  setText(byId("state"), words.states[state] ?? state);
  setText(byId("speed"), write(speedNow(samples) ?? 0, 1));
  setText(byId("waiting"), last.up ? write(last.queued ?? 0) : "–");
  const full = last.up && last.cells ? (100 * (last.cells_used ?? 0)) / last.cells : null;
  setText(byId("cells-now"), full === null ? "–" : `${write(full)} %`);
  setText(byId("restarts"), write(growth(samples, (each) => each.restarts)));
}

function showEvents(all) {
  const away = gaps(all).reduce((sum, [begin, end]) => sum + end - begin, 0);
  const n = restarts(all).length;
  const said = [];
  if (away > 0) said.push(words.away(write(away)));
  if (n > 0) said.push(words.restarted(n));
  setText(byId("events"), said.join(" "));
}

function timeText(time, exact = false) {
  const options = { hour: "2-digit", minute: "2-digit" };
  if (exact || seconds <= 300) options.second = "2-digit";
  return new Date(1000 * time).toLocaleTimeString(language, options);
}

/** A number without zeros behind it. */
function trim(value, digits = 2) {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

function isDark() {
  return getComputedStyle(document.documentElement).colorScheme === "dark";
}

/** Only what changed is written: a status that is written again is read out again. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function element(name, className = "", text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

// --- samples --------------------------------------------------------------------------------------

async function poll() {
  clearTimeout(polling);
  const after = samples.length > 0 ? `?after=${samples.at(-1).t}` : "";
  try {
    const found = await call(`api/metrics${after}`);
    failed = false;
    clock = found.now;
    bounds = found.first_token_le ?? bounds;
    // A backend that was started again has what it saw since.
    samples = [...samples, ...found.samples].filter(({ t }) => t >= clock - KEPT_MS);
  } catch {
    failed = true;
  }
  show();
  if (!document.hidden) polling = setTimeout(poll, POLL_MS);
}

applyTheme();
build();
poll();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
