// @ts-check
/** Charts over time, by Plotly, loaded when the first one is shown. */

import { fill, h } from "./dom.js";

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

/** @param {string} name */
function themed(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** @typedef {{name: string, y: (number | null)[], colour?: string, text?: string[]}} Series */
/** @typedef {{kind: "bar" | "line" | "area", x: string[], series: Series[], format?: "percent" | "money" | "ms" | "count", label: string}} Figure */

/** Up to so many points each has a mark: one that stands alone has no line. */
const MARKED = 200;
const TICKS = { percent: ".0%", money: "$.3s", ms: "", count: ".3~s" };

/** Local time of a zone without its offset: Plotly knows no zones. @param {string} time @param {string} zone */
export function wall(time, zone) {
  return new Intl.DateTimeFormat("sv-SE", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).format(new Date(time));
}

/** One chart in a place of the page. It is drawn anew in place, without flicker. */
export class Chart {
  /**
   * @param {HTMLElement} place
   * @param {{onpick?: (series: string, x: string) => void, onzoom?: (from: string, to: string) => void}} told
   */
  constructor(place, told = {}) {
    this.place = place;
    this.told = told;
    this.drawn = false;
    this.closed = false;
    /** @type {Figure | null} */
    this.figure = null;
    this.resize = new ResizeObserver(() => {
      if (this.drawn && place.clientWidth > 0) void plotly().then((p) => this.closed || p.Plots.resize(place));
    });
    this.resize.observe(place);
  }

  /** @param {Figure} figure a chart of nothing is not shown */
  async draw(figure) {
    this.figure = figure;
    this.place.hidden = !figure.series.some((series) => series.y.some((value) => value !== null && value !== 0));
    if (this.place.hidden) return;
    const library = await plotly();
    // A later figure may have come while the library was on its way.
    if (this.closed || this.figure !== figure) return;
    const stacked = figure.kind !== "line";
    const traces = figure.series.map((series) => ({
      name: series.name, x: figure.x, y: series.y, text: series.text,
      type: figure.kind === "bar" ? "bar" : "scatter", mode: figure.x.length <= MARKED ? "lines+markers" : "lines",
      stackgroup: figure.kind === "area" ? "all" : undefined,
      line: { width: 1.75, color: series.colour, shape: "linear" },
      marker: { color: series.colour, size: 4, line: { width: 0 } }, fillcolor: series.colour,
      connectgaps: false,
      hovertemplate: series.text === undefined ? undefined : "%{text}<extra>%{fullData.name}</extra>",
    }));
    const ink = themed("--ink-2"), line = themed("--line");
    const layout = {
      barmode: stacked ? "stack" : undefined, bargap: 0.15, height: 190, autosize: true,
      margin: { l: 52, r: 8, t: 6, b: 28 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: themed("--font"), size: 11, color: ink }, hovermode: "x unified",
      hoverlabel: { bgcolor: themed("--raised"), bordercolor: line, font: { color: themed("--ink") } },
      legend: { orientation: "h", y: -0.16, x: 0, font: { size: 11 } }, showlegend: figure.series.length > 1,
      xaxis: { type: "date", gridcolor: line, zeroline: false, fixedrange: false },
      yaxis: { gridcolor: line, zeroline: false, rangemode: "tozero", fixedrange: true, tickformat: TICKS[figure.format ?? "count"], ticksuffix: figure.format === "ms" ? " ms" : "" },
      uirevision: "same",
    };
    const config = { displayModeBar: false, responsive: false, doubleClick: "reset" };
    await library.react(this.place, traces, layout, config);
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", figure.label);
    if (this.drawn || this.closed) return;
    this.drawn = true;
    const events = /** @type {any} */ (this.place);
    events.on("plotly_click", (/** @type {any} */ picked) => {
      const point = picked.points[0];
      this.told.onpick?.(point.fullData.name, String(point.x));
    });
    events.on("plotly_relayout", (/** @type {any} */ changed) => {
      const from = changed["xaxis.range[0]"], to = changed["xaxis.range[1]"];
      if (from !== undefined && to !== undefined) this.told.onzoom?.(String(from), String(to));
    });
  }

  /** Save as PNG. @param {string} name without extension */
  async png(name) {
    const library = await plotly();
    await library.downloadImage(this.place, { format: "png", scale: 2, filename: name, width: this.place.clientWidth, height: 300 });
  }

  close() {
    this.closed = true;
    this.resize.disconnect();
    if (this.drawn) void plotly().then((p) => p.purge(this.place));
    else fill(this.place);
  }
}

/** A few colours that the colour-blind can tell apart (Okabe and Ito, 2008), for series that are no statuses. */
export const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8c8c8c"];
