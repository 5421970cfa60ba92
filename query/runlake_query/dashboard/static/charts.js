// @ts-check
/** Charts over time, by Plotly, loaded when the first one is shown. */

import { fill, h } from "./dom.js";
import { ticks } from "./format.js";

/** @type {Promise<any> | null} */
let library = null;

/** @returns {Promise<any>} */
function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = h("script", { src: new URL("./plotly.min.js", import.meta.url).href });
    script.onload = () => resolve(/** @type {any} */ (window).Plotly);
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
  plotly().catch(() => { /* who draws is told */ });
}

/** @param {string} name */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @typedef {{name: string, y: (number | null)[], colour?: string, faint?: boolean, text?: string[]}} Series */
/**
 * `span`: the ends of the axis of time; without it, those of the data. `x` and `span` as `wall` makes them.
 * @typedef {{kind: "bar" | "line", x: string[], span?: [string, string], series: Series[], format?: "percent" | "money" | "ms" | "count", label: string}} Figure
 */

/** Up to so many points each has a mark: one that stands alone has no line. */
const MARKED = 200;
const MAX_NAME = 28;
const TICKS = { percent: ".0%", money: "$,.3~r", ms: "", count: ".3~s" };

/** Local time of a zone without its offset: Plotly knows no zones. @param {string} time @param {string} zone */
export function wall(time, zone) {
  return new Intl.DateTimeFormat("sv-SE", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).format(new Date(time));
}

/** A text that Plotly takes as it is: it reads a little HTML in names. @param {string} text */
function plain(text) {
  const short = text.length > MAX_NAME ? `${text.slice(0, MAX_NAME - 1)}…` : text;
  return short.replace(/[\u0000-\u001f\u202a-\u202e\u2066-\u2069]/g, "·").replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** One chart in a place of the page. It is drawn anew in place, without flicker. */
export class Chart {
  /**
   * `onpick` is told the series and the point that were clicked, `onname` a name of the legend, `onzoom` the ends of
   * what was marked.
   * @param {HTMLElement} place
   * @param {{onpick?: (series: string, point: number) => void, onname?: (series: string) => void, onzoom?: (from: string, to: string) => void}} told
   */
  constructor(place, told = {}) {
    this.place = place;
    this.legend = h("ul", { class: "legend" });
    this.plot = h("div", { class: "plot" });
    fill(place, this.legend, this.plot);
    this.told = told;
    this.drawn = false;
    this.closed = false;
    /** @type {Figure | null} */
    this.figure = null;
    this.resize = new ResizeObserver(() => {
      if (this.drawn && place.clientWidth > 0) void plotly().then((p) => this.closed || p.Plots.resize(this.plot));
    });
    this.resize.observe(place);
  }

  /** @param {Figure} figure a chart of nothing is not shown */
  async draw(figure) {
    this.figure = figure;
    this.place.hidden = !figure.series.some((series) => series.y.some((value) => value !== null && (value !== 0 || figure.kind === "line")));
    if (this.place.hidden) return;
    const library = await plotly();
    await turn();
    // A later figure may have come meanwhile.
    if (this.closed || this.figure !== figure) return;
    const bars = figure.kind === "bar";
    const traces = figure.series.map((series) => ({
      name: plain(series.name), x: figure.x, y: series.y, text: series.text, textposition: "none",
      type: bars ? "bar" : "scatter", mode: figure.x.length <= MARKED ? "lines+markers" : "lines",
      line: { width: 1.75, color: series.colour, shape: "linear" },
      marker: { color: series.colour, opacity: series.faint ? 0.5 : 1, size: 4, line: { width: 0 } },
      connectgaps: false,
      hovertemplate: series.text === undefined ? undefined : "%{text}<extra>%{fullData.name}</extra>",
    }));
    const ink = themed("--ink-2"), line = themed("--line"), zoomed = this.told.onzoom !== undefined;
    const layout = {
      barmode: bars ? "stack" : undefined, bargap: 0.15, height: 172, autosize: true, dragmode: zoomed ? "zoom" : false,
      margin: { l: 46, r: 8, t: 6, b: 34 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      // Of a stack one bar is pointed at; of lines all that is above the same time.
      font: { family: themed("--font"), size: 11, color: ink }, hovermode: bars ? "closest" : "x unified",
      hoverlabel: { bgcolor: themed("--raised"), bordercolor: line, font: { color: themed("--ink") } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, traceorder: "normal" }, showlegend: false,
      xaxis: { type: "date", gridcolor: line, zeroline: false, fixedrange: !zoomed, range: figure.span, autorange: figure.span === undefined },
      yaxis: {
        gridcolor: line, zeroline: false, rangemode: "tozero", fixedrange: true, tickformat: TICKS[figure.format ?? "count"],
        // To find labels that do not fit, Plotly measures each at each place where it comes to stand, and keeps 10,000 such.
        ticklabeloverflow: "allow",
        ...(figure.format === "ms" ? ticks(Math.max(...figure.series.flatMap((series) => series.y.map((value) => value ?? 0)))) : {}),
        ...(figure.format === "percent" ? { range: [0, 1.03] } : {}),
      },
      uirevision: `${figure.span}`,
    };
    this.name(figure);
    await library.react(this.plot, traces, layout, { displayModeBar: false, responsive: false, doubleClick: false, showTips: false });
    if (this.closed) return;
    this.plot.setAttribute("role", "img");
    this.plot.setAttribute("aria-label", figure.label);
    if (this.drawn) return;
    this.drawn = true;
    const events = /** @type {any} */ (this.plot);
    events.on("plotly_click", (/** @type {any} */ picked) => {
      const point = picked.points[0], series = this.figure?.series[point.curveNumber];
      if (series !== undefined) this.told.onpick?.(series.name, point.pointNumber);
    });
    events.on("plotly_relayout", (/** @type {any} */ changed) => {
      const from = changed["xaxis.range[0]"], to = changed["xaxis.range[1]"];
      if (from !== undefined && to !== undefined) this.told.onzoom?.(String(from), String(to));
    });
  }

  /** What the colours mean; names that can be picked are buttons. @param {Figure} figure */
  name(figure) {
    const names = figure.series.length > 1 ? figure.series : [];
    const mark = JSON.stringify(names.map((series) => [series.name, series.colour, series.faint]));
    if (this.legend.getAttribute("data-mark") === mark) return;
    this.legend.setAttribute("data-mark", mark);
    fill(this.legend, names.map((series) => {
      const swatch = h("span", { class: series.faint ? "swatch faint" : "swatch", "aria-hidden": "true" });
      swatch.style.background = series.colour ?? "";
      const said = [swatch, h("bdi", {}, series.name)], pick = this.told.onname;
      return h("li", { title: series.name }, pick === undefined ? said : h("button", { type: "button", onclick: () => pick(series.name) }, said));
    }));
  }

  /** Save as PNG. @param {string} name without extension */
  async png(name) {
    const library = await plotly();
    const { data, layout } = /** @type {any} */ (this.plot);
    const figure = { data, layout: { ...layout, showlegend: data.length > 1, height: 300, paper_bgcolor: themed("--raised"), margin: { ...layout.margin, t: 30 } } };
    await library.downloadImage(figure, { format: "png", scale: 2, filename: name, width: this.plot.clientWidth, height: 300 });
  }

  close() {
    this.closed = true;
    this.resize.disconnect();
    if (this.drawn) void plotly().then((p) => p.purge(this.plot));
    else fill(this.plot);
  }
}

/** A few colours that the colour-blind can tell apart (Okabe and Ito, 2008), for series that are no statuses. */
export const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c"];
