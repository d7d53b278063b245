// A chart of one panel: uPlot with the page's colours, the whiles without a server, and the engine's
// restarts. Knows no metric.

import uPlot from "/vendor/uplot.js";

const HEIGHT_PX = 190;
const AXIS_PX = 34; // under the chart
const LABEL_PX = 48; // which a label of a bar takes
const DASH = [6, 4];

export class Chart {
  /** Draws into `element`; `label` is what the picture is called. */
  constructor(element) {
    this._element = element;
    this._plot = null;
    this._marks = { gaps: [], restarts: [], from: 0, to: 0 };
    this._shape = "";
    new ResizeObserver(() => this._resize()).observe(element);
  }

  /** `drawn` is what a panel draws, `marks` has `gaps`, `restarts` and the times `from` and `to`,
   * in seconds; `names` say what each series is called, `format` writes numbers. */
  show(drawn, marks, { names, time, format, labelText, key }) {
    this._marks = marks;
    const data = [drawn.x ?? drawn.labels.map((_, i) => i), ...drawn.series.map((s) => s.values)];
    // What an axis says is fixed when a plot is made: other labels, words or colours need another.
    const shape = JSON.stringify([key, drawn.labels ?? null, names]);
    if (shape !== this._shape) {
      this._plot?.destroy();
      const options = this._options(drawn, { names, time, format, labelText });
      this._plot = new uPlot(options, data, this._element);
      this._shape = shape;
      this._hideFromReaders();
    } else {
      this._plot.setData(data, true);
    }
  }

  _options(drawn, { names, time, format, labelText }) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
    const overLabels = drawn.labels !== undefined;
    return {
      width: this._element.clientWidth,
      height: HEIGHT_PX,
      cursor: { sync: overLabels ? undefined : { key: "metrics" }, y: false, points: { size: 7 } },
      legend: { show: true, live: !overLabels },
      scales: {
        x: overLabels
          ? { time: false, range: [-0.6, Math.max(1, drawn.labels.length) - 0.4] }
          : { time: true, range: () => [this._marks.from, this._marks.to] },
        y: { range: (_, __, most) => [0, most > 0 ? 1.1 * most : 1] },
      },
      axes: [
        overLabels
          ? {
              ...axis,
              grid: { show: false },
              splits: () => drawn.labels.map((_, i) => i),
              values: (plot, splits) => {
                const step = Math.ceil((splits.length * LABEL_PX * devicePixelRatio) / plot.bbox.width);
                return splits.map((i) => (i % step === 0 ? labelText(drawn.labels[i]) : ""));
              },
              size: AXIS_PX,
            }
          : {
              ...axis,
              values: (_, splits) => splits.map((each) => time(each)),
              size: AXIS_PX,
              space: 84,
            },
        {
          ...axis,
          size: 56,
          values: (_, splits) => splits.map((each) => format(each, drawn.whole)),
          incrs: drawn.whole || overLabels ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] : undefined,
        },
      ],
      series: [
        { label: names[0], value: (_, each) => (each === null ? "–" : time(each, true)) },
        ...drawn.series.map((each, i) => {
          const line = colour(`--series-${each.colour}`);
          return {
            label: names[i + 1],
            stroke: line,
            width: 2,
            dash: each.dash ? DASH : undefined,
            fill: each.area || overLabels ? `${line}33` : undefined,
            paths: overLabels ? uPlot.paths.bars({ size: [0.7, 64] }) : undefined,
            points: { show: false },
            value: (_, value) => (value === null ? "–" : format(value, drawn.whole)),
          };
        }),
      ],
      hooks: overLabels ? {} : { drawClear: [(plot) => this._shade(plot)], draw: [(plot) => this._mark(plot)] },
    };
  }

  /** The whiles in which the server was away. */
  _shade(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--sunken");
    for (const [begin, end] of this._marks.gaps) {
      const [left, right] = [begin, end].map((each) => plot.valToPos(each, "x", true));
      ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
    }
    ctx.restore();
  }

  /** The moments at which the engine was started again. */
  _mark(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--bad");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const time of this._marks.restarts) {
      const x = plot.valToPos(time, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** The sentence beside the chart says what it shows. */
  _hideFromReaders() {
    this._element.setAttribute("aria-hidden", "true");
  }

  _resize() {
    const width = this._element.clientWidth;
    if (this._plot && width > 0 && width !== this._plot.width) {
      this._plot.setSize({ width, height: HEIGHT_PX });
    }
  }
}
