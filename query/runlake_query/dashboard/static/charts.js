// @ts-check
/** Charts over time, by Chart.js, loaded when the first one is shown. */

import { fill, h } from "./dom.js";
import { count, exact, moment, money, ticks } from "./format.js";
import { marking } from "./marking.js";
import { THEME } from "./theme.js";
import { timeTicks } from "./timeaxis.js";

/** @type {Promise<any> | null} */
let library = null;

/** @returns {Promise<any>} */
function loaded() {
  library ??= new Promise((resolve, reject) => {
    const script = h("script", { src: new URL("./Chart.bundle.js", import.meta.url).href });
    script.onload = () => resolve(/** @type {any} */ (window).Chart);
    script.onerror = () => { library = null; reject(new Error("The chart library could not be loaded.")); };
    document.head.append(script);
  });
  return library;
}

/** @type {Promise<unknown>} */
let turns = Promise.resolve();

/** Each chart is drawn in a task of its own: what is drawn is seen, and what is pressed is heard, before the next one. */
function turn() {
  turns = turns.then(() => new Promise((resolve) => window.setTimeout(resolve)));
  return turns;
}

/** Begin to load the library, where it will be needed. */
export function preload() {
  loaded().catch(() => { /* who draws is told */ });
}

/** The value of a custom property in the present theme. @param {string} name */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @typedef {{name: string, y: (number | null)[], colour: string, faint?: boolean, text?: string[]}} Series */
/**
 * Times are ms since the epoch, and `x` goes up; a colour is one, or the name of a custom property that has one. `x`:
 * where the points are, or with `step`, a length in ms, where the time begins that each stands for; `span`: the ends of
 * the axis of time, which is longer where points need more; without it, those of the data.
 * @typedef {"percent" | "money" | "ms" | "count"} Format
 * @typedef {{x: number[], zone: string, step?: number, span?: [number, number]}} TimeAxis
 * @typedef {TimeAxis & {kind: "bar" | "line", series: Series[], format?: Format, label: string}} Figure
 */

/** Up to so many points each has a mark; of more, those that stand alone, and have no line. */
const MARKED = 200;
const MAX_NAME = 28;
const AXIS_PX = 54;
const TICK_PX = 85;
const PICTURE_PX = 300;

/** @type {Record<string, (value: number) => string>} */
const TICKS = {
  percent: (share) => `${Math.round(share * 100)} %`, money, ms: String,
  count: (number) => (Number.isInteger(number) ? count(number) : shortest(number, 4)),
};
/** @type {Record<string, (value: number) => string>} */
const VALUES = {
  ...TICKS, count: (number) => (Number.isInteger(number) ? exact(number) : shortest(number)), money: (usd) => `$${shortest(usd)}`,
};

/** Without the noise of binary fractions. @param {number} value @param {number} [digits] */
function shortest(value, digits = 12) {
  return String(Number(value.toPrecision(digits)));
}

/** A text in one line of a canvas. @param {string} text */
function plain(text) {
  const short = text.length > MAX_NAME ? `${text.slice(0, MAX_NAME - 1)}…` : text;
  return short.replace(/[\u0000-\u001f\u202a-\u202e\u2066-\u2069]/g, "·");
}

/** One chart in a place of the page. It is drawn anew in place, without flicker. */
export class Chart {
  /**
   * `onpick` is told the series and the point that were clicked, `onname` a name of the legend, `onzoom` the ends of
   * what was marked, in ms since the epoch.
   * @param {HTMLElement} place
   * @param {{onpick?: (series: string, point: number) => void, onname?: (series: string) => void, onzoom?: (from: number, to: number) => void}} told
   */
  constructor(place, told = {}) {
    this.place = place;
    this.legend = h("ul", { class: "legend" });
    this.plot = h("div", { class: told.onzoom === undefined ? "plot" : "plot markable" });
    fill(place, this.legend, this.plot);
    this.told = told;
    /** What draws, from the first figure on. @type {any} */
    this.chart = null;
    this.closed = false;
    /** @type {Figure | null} */
    this.figure = null;
    /** A canvas has the colours with which it was drawn. */
    this.recolour = () => this.again();
    window.addEventListener(THEME, this.recolour);
    marking(this.plot, {
      area: () => (told.onzoom === undefined ? null : this.chart?.chartArea ?? null),
      onmark: (from, to) => told.onzoom?.(...ends(this.chart.scales.x, from, to)),
      onpress: (event) => this.pick(event),
    });
  }

  /** @param {Figure} figure a chart of nothing is not shown */
  async draw(figure) {
    this.figure = figure;
    this.place.hidden = !figure.series.some((series) => series.y.some((value) => value !== null && (value !== 0 || figure.kind === "line")));
    if (this.place.hidden) return;
    const Library = await loaded();
    await turn();
    // A later figure may have come meanwhile.
    if (this.closed || this.figure !== figure) return;
    this.name(figure);
    this.plot.setAttribute("role", "img");
    this.plot.setAttribute("aria-label", figure.label);
    if (this.chart === null) {
      const canvas = h("canvas");
      this.plot.append(canvas);
      this.chart = new Library(canvas, { type: figure.kind, ...drawing(figure) });
    } else this.again();
  }

  /** Draw the figure anew. */
  again() {
    if (this.chart === null || this.figure === null) return;
    Object.assign(this.chart, drawing(this.figure));
    this.chart.update("none");
  }

  /** Of bars the one that is pointed at; of lines the time that is. @param {PointerEvent} event */
  pick(event) {
    if (this.chart === null || this.figure === null) return;
    const how = pointing(this.figure);
    const [found] = this.chart.getElementsAtEventForMode(event, how.mode, how, true);
    const series = this.figure.series[found?.datasetIndex];
    if (series !== undefined) this.told.onpick?.(series.name, found.index);
  }

  /** What the colours mean; names that can be picked are buttons. @param {Figure} figure */
  name(figure) {
    const names = figure.series.length > 1 ? figure.series : [];
    const mark = JSON.stringify(names.map((series) => [series.name, series.colour, series.faint]));
    if (this.legend.getAttribute("data-mark") === mark) return;
    this.legend.setAttribute("data-mark", mark);
    fill(this.legend, names.map((series) => {
      const swatch = h("span", { class: series.faint ? "swatch faint" : "swatch", "aria-hidden": "true" });
      swatch.style.background = series.colour.startsWith("--") ? `var(${series.colour})` : series.colour;
      const said = [swatch, h("bdi", {}, series.name)], pick = this.told.onname;
      return h("li", { title: series.name }, pick === undefined ? said : h("button", { type: "button", onclick: () => pick(series.name) }, said));
    }));
  }

  /** Save as PNG, with a legend. @param {string} name without extension */
  async png(name) {
    const Library = await loaded();
    if (this.figure === null) return;
    const canvas = h("canvas", { width: this.plot.clientWidth, height: PICTURE_PX });
    const { data, options } = drawing(this.figure);
    const legend = { display: data.datasets.length > 1, labels: { color: themed("--ink-2"), boxWidth: 10, boxHeight: 10 } };
    const paper = themed("--raised");
    const picture = new Library(canvas, {
      type: this.figure.kind, data,
      options: { ...options, responsive: false, devicePixelRatio: 2, plugins: { ...options.plugins, legend } },
      plugins: [{
        id: "paper",
        beforeDraw: (/** @type {any} */ { ctx, width, height }) => { ctx.fillStyle = paper; ctx.fillRect(0, 0, width, height); },
      }],
    });
    const image = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    picture.destroy();
    const link = h("a", { href: URL.createObjectURL(image), download: `${name}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  close() {
    this.closed = true;
    window.removeEventListener(THEME, this.recolour);
    this.chart?.destroy();
    this.chart = null;
  }
}

/** The moments at two places of an axis. @param {any} axis @param {number} from px @param {number} to px @returns {[number, number]} */
function ends(axis, from, to) {
  return [Math.round(axis.getValueForPixel(from)), Math.round(axis.getValueForPixel(to))];
}

/** How what is pointed at is found. @param {Figure} figure */
function pointing(figure) {
  return figure.kind === "bar" ? { mode: "point", intersect: true } : { mode: "index", intersect: false };
}

/** A figure as Chart.js takes it. @param {Figure} figure */
function drawing(figure) {
  const { kind, x, step = 0, series } = figure;
  const at = x.map((time) => time + step / 2);
  // A bar is as wide as the least distance between points: without one after the last, one alone would be all of the chart.
  if (kind === "bar" && step > 0) at.push(/** @type {number} */ (at.at(-1)) + step);
  const datasets = series.map(({ name, y, colour, faint }) => {
    const shade = colour.startsWith("--") ? themed(colour) : colour;
    return {
      type: kind, label: plain(name), data: at.map((time, index) => ({ x: time, y: y[index] ?? null })),
      backgroundColor: faint ? `${shade}80` : shade, borderColor: shade,
      ...(kind === "bar"
        ? { stack: "all", categoryPercentage: 1, barPercentage: 0.85, clip: 0 }
        : { borderWidth: 1.75, pointRadius: radii(y), pointHoverRadius: 4, pointBorderWidth: 0, spanGaps: false, clip: 4 }),
    };
  });
  return { data: { datasets }, options: options(figure) };
}

/** @param {(number | null)[]} y */
function radii(y) {
  return y.map((_, index) => (y.length <= MARKED || ((y[index - 1] ?? null) === null && (y[index + 1] ?? null) === null) ? 2 : 0));
}

/** @param {Figure} figure */
function options(figure) {
  const { kind, x, zone, step = 0, span, series, format = "count" } = figure;
  const ink = themed("--ink-2"), line = themed("--line"), strong = themed("--ink");
  const font = { family: themed("--font"), size: 11 };
  return {
    animation: false, responsive: true, maintainAspectRatio: false, parsing: false, font, color: ink,
    events: ["mousemove", "mouseout", "touchstart", "touchmove"],
    interaction: pointing(figure),
    layout: { padding: { top: 6, right: 8 } },
    plugins: {
      legend: { display: false },
      tooltip: {
        backgroundColor: themed("--raised"), borderColor: line, borderWidth: 1, titleColor: strong, bodyColor: strong,
        titleFont: font, bodyFont: font, boxWidth: 8, boxHeight: 8, boxPadding: 4, caretSize: 0,
        callbacks: {
          title: (/** @type {any[]} */ [item]) => (item === undefined ? "" : moment(new Date(x[item.dataIndex]).toISOString(), zone)),
          label: (/** @type {any} */ item) => `${item.dataset.label}: ${series[item.datasetIndex]?.text?.[item.dataIndex] ?? VALUES[format](item.raw.y)}`,
        },
      },
    },
    scales: {
      x: {
        type: "linear", stacked: kind === "bar", bounds: "data", offset: false,
        min: span && Math.min(span[0], x[0]), max: span && Math.max(span[1], /** @type {number} */ (x.at(-1)) + step),
        grid: { color: line, drawTicks: false, offset: false }, border: { display: false },
        ticks: { color: ink, font, padding: 4, autoSkip: false, maxRotation: 0, callback: named },
        afterBuildTicks: (/** @type {any} */ axis) => {
          axis.ticks = timeTicks(axis.min, axis.max, zone, Math.floor(axis.chart.width / TICK_PX));
        },
      },
      y: {
        stacked: kind === "bar", beginAtZero: true, max: format === "percent" ? 1 : undefined,
        bounds: format === "ms" ? "data" : "ticks", grace: format === "ms" ? "5%" : 0,
        grid: { color: line, drawTicks: false }, border: { display: false },
        ticks: {
          color: ink, font, padding: 4, maxTicksLimit: 5, precision: format === "count" && whole(series) ? 0 : undefined,
          callback: format === "ms" ? named : TICKS[format],
        },
        afterBuildTicks: format !== "ms" ? undefined : (/** @type {any} */ axis) => {
          const { tickvals, ticktext } = ticks(axis.max);
          axis.ticks = tickvals.map((value, index) => ({ value, label: ticktext[index] }));
        },
        afterFit: (/** @type {any} */ axis) => { axis.width = AXIS_PX; },
      },
    },
  };
}

/** What a tick is called that was given a name. @param {number} _ @param {number} index @param {any[]} all */
function named(_, index, all) {
  return all[index].label;
}

/** @param {Series[]} series */
function whole(series) {
  return series.every(({ y }) => y.every((value) => value === null || Number.isInteger(value)));
}

/** A few colours that the colour-blind can tell apart (Okabe and Ito, 2008), for series that are no statuses. */
export const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c"];
