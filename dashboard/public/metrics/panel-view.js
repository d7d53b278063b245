// One panel on the page: its heading, sentence, chart and legend, for eyes, keyboard and readers.

import { Chart } from "./chart.js";

const MOVES = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };

export class PanelView {
  constructor(panel, words, text) {
    this.panel = panel;
    this._words = words;
    this._text = text;
    this._point = null;
    this._drawn = null;
    this.element = element("section", "panel");
    this.element.id = panel.id;
    const heading = element("h2", "", words.panels[panel.id]);
    heading.id = `${panel.id}-title`;
    this.element.setAttribute("aria-labelledby", heading.id);
    this._says = element("p", "says");
    this._box = element("div", "chart");
    this._legend = element("ul", "legend");
    this._at = element("span", "at");
    const head = element("div", "head");
    head.append(heading, this._at);
    this.element.append(head, this._says, this._box, this._legend);
    this._chart = new Chart(this._box, {
      text: {
        tick: (value, most) => text.tick(value, most),
        time: (moment, second) => text.time(moment, second),
        bound: (seconds) => this._bound(seconds),
      },
      onPoint: (i) => this._pointed(i),
    });
  }

  /** `seen` is what the panel draws of, `said` what it speaks of. */
  show(seen, said, marks, look) {
    this._drawn = this.panel.draw(seen);
    this._chart.show(this._drawn, marks, look);
    const sentence = this.panel.say(said, this._words.says, this._text);
    setText(this._says, sentence);
    this._name(sentence);
    this._writeLegend();
  }

  /** A plot has new elements when it is made anew; then they need their names again. */
  _name(sentence) {
    const { canvas, over } = this._chart;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${this._words.panels[this.panel.id]}. ${sentence}`);
    if (over.tabIndex === 0) return;
    over.tabIndex = 0;
    over.setAttribute("role", "slider");
    over.setAttribute("aria-label", this._words.points(this._words.panels[this.panel.id]));
    over.setAttribute("aria-valuemin", "0");
    over.addEventListener("keydown", (event) => this._move(event));
    over.addEventListener("blur", () => this._chart.leave());
    this._value();
  }

  _move(event) {
    const [first, last] = this._chart.range();
    if (first === -1 || last < first) return;
    const at = this._point ?? last;
    const step = MOVES[event.key];
    const moved = { Home: first, End: last }[event.key] ?? (step ? at + step : undefined);
    if (event.key === "Escape") this._chart.leave();
    if (moved === undefined) return;
    event.preventDefault();
    this._chart.point(Math.min(last, Math.max(first, moved)));
  }

  _pointed(i) {
    this._point = i;
    if (this._drawn) this._writeLegend();
  }

  /** What each series is at the crosshair, or else at the end. */
  _writeLegend() {
    const { series, labels } = this._drawn;
    const at = this._point;
    if (this._legend.childElementCount !== series.length) {
      this._legend.replaceChildren(...series.map((each) => this._entry(each)));
    }
    for (const [i, { values }] of series.entries()) {
      const value = at === null ? this._idle(values, labels) : (values[at] ?? null);
      setText(this._legend.children[i].lastChild, this._write(value));
    }
    setText(this._at, at === null ? "" : this._where(at));
    this._value();
  }

  _idle(values, labels) {
    return labels ? values.reduce((sum, n) => sum + n, 0) : (values.at(-1) ?? null);
  }

  _write(value) {
    if (value === null) return "–";
    return this._drawn.whole ? this._text.number(value) : this._text.rate(value);
  }

  /** For readers, who do not see the crosshair. */
  _value() {
    const { over } = this._chart;
    const at = this._point;
    over.setAttribute("aria-valuemax", String(Math.max(0, this._chart.range()[1])));
    over.setAttribute("aria-valuenow", String(at ?? Math.max(0, this._chart.range()[1])));
    const figures = this._drawn.series.map(({ name, values }) => {
      return `${this._words.series[name]} ${this._write(values[at] ?? null)}`;
    });
    const said = at === null ? this._words.latest : [this._where(at), ...figures].join(", ");
    over.setAttribute("aria-valuetext", said);
  }

  _where(i) {
    const { labels, x, spanS = 0 } = this._drawn;
    if (!labels) return i < x.length ? this._text.time(x[i] - spanS / 2) : "";
    if (i >= labels.length) return "";
    return labels[i] === Infinity ? this._words.beyond : this._words.upTo(this._bound(labels[i]));
  }

  _bound(seconds) {
    return seconds === Infinity ? this._words.beyond : this._text.seconds(seconds);
  }

  _entry({ name, colour, dash, area }) {
    const entry = element("li");
    const bars = this._drawn.labels !== undefined || this._drawn.spanS !== undefined;
    const kind = bars || area ? "block" : dash ? "dashed" : "line";
    const swatch = element("span", `swatch ${kind} series-${colour}`);
    entry.append(swatch, element("span", "", this._words.series[name]), element("b"));
    return entry;
  }
}

/** Only what changed is written: a status that is written again is read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function element(name, className = "", text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}
