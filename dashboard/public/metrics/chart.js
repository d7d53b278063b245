// A chart of one panel: uPlot with the page's colours, the whiles without a server, the engine's
// restarts, and a crosshair that all charts over time share. Knows no metric and no words.

import uPlot from "/vendor/uplot.js";

const HEIGHT_PX = 200;
const AXIS_PX = 32; // under the chart
const SIDE_PX = 52; // beside it
const LABEL_PX = 52; // which a label of a bar takes
const HATCH_PX = 8;
const DASH = [6, 4];
const PADDING = [10, 10, 0, 0];
const WHOLE = Array.from({ length: 10 }, (_, k) => [1, 2, 5].map((n) => n * 10 ** k)).flat();

export class Chart {
  /** Draws into `element`. `text` writes what axes say: `tick(value, most)`, `time(moment, second)` and
   * `bound(seconds)`; `onPoint(i)` is told which point the crosshair is at, or null. */
  constructor(element, { text, onPoint }) {
    this._element = element;
    this._text = text;
    this._onPoint = onPoint;
    this._plot = null;
    this._drawn = null;
    this._marks = { gaps: [], restarts: [], from: 0, to: 0 };
    this._shape = "";
    new ResizeObserver(() => this._resize()).observe(element);
  }

  /** `drawn` is what a panel draws; `marks` has `gaps`, `restarts` and the times `from` and `to`, in
   * seconds; `look` names the colours in use. */
  show(drawn, marks, look) {
    this._drawn = drawn;
    this._marks = marks;
    const shape = `${look} ${drawn.series.length}`; // which a plot has for its whole life
    if (shape === this._shape) {
      this._plot.setData(dataOf(drawn), true);
      return;
    }
    this._plot?.destroy();
    this._style = getComputedStyle(document.documentElement);
    this._plot = new uPlot(this._options(drawn), dataOf(drawn), this._element);
    this._shape = shape;
  }

  get canvas() {
    return this._plot.ctx.canvas;
  }

  /** What lies over the picture and has the crosshair. */
  get over() {
    return this._plot.over;
  }

  /** Moves the crosshair to a point, in all charts. */
  point(i) {
    const left = this._plot.valToPos(this._plot.data[0][i], "x");
    this._plot.setCursor({ left, top: 0 }, true, true);
  }

  /** Takes the crosshair away, from all charts. */
  leave() {
    this._plot.setCursor({ left: -10, top: -10 }, true, true);
  }

  /** The first and the last point that can be seen. */
  range() {
    const { from, to } = this._marks;
    const x = this._plot.data[0];
    if (this._drawn.labels) return [0, x.length - 1];
    return [x.findIndex((each) => each >= from), x.findLastIndex((each) => each <= to)];
  }

  _colour(name) {
    return this._style.getPropertyValue(name).trim();
  }

  _options(drawn) {
    const overTime = drawn.labels === undefined;
    return {
      width: this._element.clientWidth,
      height: HEIGHT_PX,
      padding: PADDING,
      legend: { show: false },
      cursor: {
        sync: overTime ? { key: "metrics" } : undefined,
        x: overTime,
        y: false,
        drag: { x: false, y: false },
        points: { show: !isBars(drawn) && !drawn.stacked, size: 7 },
      },
      scales: {
        x: {
          time: overTime,
          range: () =>
            overTime
              ? [this._marks.from, this._marks.to]
              : [-0.6, Math.max(1, this._drawn.labels.length) - 0.4],
        },
        y: { range: (_, __, most) => [0, most > 0 ? 1.08 * most : 1] },
      },
      axes: [overTime ? this._timeAxis() : this._labelAxis(), this._valueAxis(drawn)],
      series: [{}, ...stackOrder(drawn).map((i) => this._series(drawn, drawn.series[i]))],
      hooks: {
        drawClear: overTime ? [(plot) => this._shade(plot)] : [],
        draw: overTime ? [(plot) => this._markRestarts(plot)] : [],
        setCursor: [(plot) => this._onPoint(plot.cursor.left >= 0 ? plot.cursor.idx : null)],
      },
    };
  }

  _axis() {
    const line = this._colour("--line");
    return {
      stroke: this._colour("--soft"),
      font: `12px ${this._style.fontFamily}`,
      grid: { stroke: line, width: 1 },
      ticks: { show: false },
    };
  }

  _timeAxis() {
    return {
      ...this._axis(),
      grid: { show: false },
      ticks: { show: true, stroke: this._colour("--line"), width: 1, size: 5 },
      values: (_, splits) => {
        const second = splits.some((each) => each % 60 !== 0);
        return splits.map((each) => this._text.time(each, second));
      },
      size: AXIS_PX,
      space: 72,
    };
  }

  _labelAxis() {
    return {
      ...this._axis(),
      grid: { show: false },
      splits: () => this._drawn.labels.map((_, i) => i),
      values: (plot, splits) => {
        const step = Math.ceil((splits.length * LABEL_PX * devicePixelRatio) / plot.bbox.width);
        return splits.map((i) => (i % step === 0 ? this._text.bound(this._drawn.labels[i]) : ""));
      },
      size: AXIS_PX,
    };
  }

  _valueAxis(drawn) {
    return {
      ...this._axis(),
      size: SIDE_PX,
      space: 30,
      incrs: drawn.whole ? WHOLE : undefined,
      values: (_, splits) => splits.map((each) => this._text.tick(each, splits.at(-1))),
    };
  }

  _series(drawn, { colour, area, dash }) {
    const line = this._colour(`--series-${colour}`);
    if (isBars(drawn)) {
      // The edge has the ground's colour: it keeps what is stacked apart.
      const edge = this._colour("--surface");
      const paths = uPlot.paths.bars({ size: [0.85, 56] });
      return { stroke: edge, width: 1, fill: line, paths, points: { show: false } };
    }
    return {
      stroke: line,
      width: 2,
      dash: dash ? DASH : undefined,
      fill: area ? this._fill(drawn, line) : undefined,
      points: { show: false },
    };
  }

  /** What is stacked covers what stands behind it, and so needs the ground's colour mixed in. */
  _fill(drawn, line) {
    if (!drawn.stacked) return `${line}2e`;
    return mixed(line, this._colour("--surface"), 0.3);
  }

  /** The whiles in which the server was away. */
  _shade(plot) {
    const { ctx, bbox } = plot;
    for (const [begin, end] of this._marks.gaps) {
      const [left, right] = [begin, end].map((each) => plot.valToPos(each, "x", true));
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, Math.max(2 * devicePixelRatio, right - left), bbox.height);
      ctx.fillStyle = this._colour("--sunken");
      ctx.fill();
      ctx.clip();
      ctx.strokeStyle = this._colour("--line");
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      const step = HATCH_PX * devicePixelRatio;
      for (let x = left - bbox.height; x < right; x += step) {
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x + bbox.height, bbox.top);
      }
      ctx.stroke();
      ctx.restore();
    }
  }

  /** The moments at which the engine was started again. */
  _markRestarts(plot) {
    const { ctx, bbox } = plot;
    const px = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = this._colour("--bad");
    ctx.lineWidth = 1.5 * px;
    ctx.setLineDash([2 * px, 3 * px]);
    for (const moment of this._marks.restarts) {
      const x = plot.valToPos(moment, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.beginPath();
      ctx.moveTo(x - 5 * px, bbox.top - 7 * px);
      ctx.lineTo(x + 5 * px, bbox.top - 7 * px);
      ctx.lineTo(x, bbox.top);
      ctx.fill();
    }
    ctx.restore();
  }

  _resize() {
    const width = this._element.clientWidth;
    if (this._plot && width > 0 && width !== this._plot.width) {
      this._plot.setSize({ width, height: HEIGHT_PX });
    }
  }
}

/** Nothing is no bar, also not one without height: its edge would be seen. */
function barsOf(heights, values) {
  return heights.map((height, i) => (values[i] === 0 ? null : height));
}

function isBars({ labels, spanS }) {
  return labels !== undefined || spanS !== undefined;
}

/** The indices of the series as they are painted: what stands highest in a stack comes first. */
function stackOrder({ series, stacked }) {
  const all = [...series.keys()];
  return stacked ? all.reverse() : all;
}

function dataOf(drawn) {
  const { x, labels, series, stacked } = drawn;
  let below = null;
  const heights = series.map(({ values, solo }) => {
    if (!stacked || solo) return values;
    below = values.map((value, i) => (value === null ? null : value + (below?.[i] ?? 0)));
    return below;
  });
  const painted = isBars(drawn)
    ? heights.map((each, i) => barsOf(each, series[i].values))
    : heights;
  return [x ?? labels.map((_, i) => i), ...stackOrder(drawn).map((i) => painted[i])];
}

/** A share of one colour on another; both as #rrggbb. */
function mixed(colour, ground, share) {
  const parts = (text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  const [a, b] = [parts(colour), parts(ground)];
  return `rgb(${a.map((each, i) => Math.round(share * each + (1 - share) * b[i])).join(" ")})`;
}
