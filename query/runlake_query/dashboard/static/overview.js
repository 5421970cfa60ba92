// @ts-check
/** Overview: what ran, how well, how long, for how much, in the chosen range. */

import { get, urlOf } from "./api.js";
import { Chart, PALETTE, preload } from "./charts.js";
import { controls } from "./controls.js";
import { fill, h } from "./dom.js";
import { count, duration, exact, money, moment, percent } from "./format.js";
import { listen, seldom } from "./live.js";
import { Panel } from "./panel.js";
import { BUCKET_MS, coarser, go, Place } from "./place.js";
import { badge } from "./status.js";

/** @typedef {import("./app.js").Shell} Shell */
/** @typedef {import("./api.js").Query} Query */

const STATUSES = ["success", "partial", "running", "cancelled", "timeout", "failure"];
const OVER_TIME = [
  "runs", ...STATUSES, "success_rate", "p50_duration_ms", "p95_duration_ms", "p99_duration_ms",
  "input_tokens", "output_tokens", "cost_usd",
].join(",");
const TOP = [["agent_name", "Top agents"], ["job_type", "Job types"], ["product", "Products"]];
const REFRESH_MS = 3000;
const NO_MODEL = "no model";

/** @param {HTMLElement} main @param {Shell} shell */
export function overview(main, shell) {
  let place = Place.now();
  let stop = () => {};
  let abort = new AbortController();
  /** Where the points of the charts begin, and where the last one ends, ms since the epoch. @type {number[]} */
  let moments = [];
  /** The same of the charts by model. @type {number[]} */
  let modelMoments = [];

  preload();
  const bar = h("div", { class: "controls" });
  const tiles = h("dl", { class: "tiles" });
  const grid = h("div", { class: "grid" });

  /** @param {string} _ @param {number} point */
  const byTime = (_, point) => { if (moments[point + 1] !== undefined) go(place.between(new Date(moments[point]), new Date(moments[point + 1]))); };
  /** @param {string} series */
  const byName = (series) => { if (modelOf(series) !== NO_MODEL) go(place.adding("model", modelOf(series))); };
  /** @param {string} series @param {number} point */
  const byModelOrTime = (series, point) => {
    if (modelOf(series) !== NO_MODEL) byName(series);
    else if (modelMoments[point + 1] !== undefined) go(place.between(new Date(modelMoments[point]), new Date(modelMoments[point + 1])));
  };

  /** Of which model a series is, by the name of it. @param {string} series */
  const modelOf = (series) => series.replace(/ \((in|out)\)$/, "");

  const runs = chartPanel("Runs", (status) => go(place.adding("status", status)), (status) => go(place.adding("status", status)));
  const rate = chartPanel("Success rate", byTime);
  const time = chartPanel("Duration", byTime);
  const tokens = chartPanel("Tokens by model", byModelOrTime, byName);
  const cost = chartPanel("Cost by model", byModelOrTime, byName);
  const top = TOP.map(([name, title]) => ({ name, panel: new Panel(title) }));
  const failures = new Panel("Latest failures");
  fill(grid, runs.panel.root, rate.panel.root, time.panel.root, tokens.panel.root, cost.panel.root, failures.root, top.map((one) => one.panel.root));
  fill(main, h("h1", { class: "unseen" }, "Overview"), bar, tiles, grid);

  /** @param {string} title @param {(series: string, point: number) => void} onpick @param {(series: string) => void} [onname] */
  function chartPanel(title, onpick, onname) {
    const area = h("div", { class: "chart" });
    const chart = new Chart(area, {
      onpick, onname,
      onzoom: (from, to) => go(place.between(new Date(from), new Date(to))),
    });
    const panel = new Panel(title, { onpng: () => void chart.png(`runlake ${title.toLowerCase()}`) });
    panel.body.append(area);
    return { panel, chart };
  }

  async function load() {
    const now = Date.now();
    const { from, to, bucket } = place.range(now);
    const query = place.query(now);
    const signal = abort.signal;
    const span = /** @type {[number, number]} */ ([from.getTime(), to.getTime()]);
    const shown = overTime(bucket, span, query, signal);
    // The charts are seen at once, and asked for while their library is loaded; the tables below would only slow them down.
    const models = byModel(coarser(bucket, span[1] - span[0]), span, query, signal, shown.drawn);
    await shown.asked;
    await Promise.all([
      shown.drawn, models,
      ...top.map((one) => ranking(one.name, one.panel, query, signal)), latest(query, signal),
    ]);
  }

  /** @param {string} bucket @param {[number, number]} span @param {Query} query @param {AbortSignal} signal */
  function overTime(bucket, span, query, signal) {
    const asked = /** @type {Query} */ ([["bucket", bucket], ["tz", place.zone], ["measures", OVER_TIME], ["limit", "1000"], ...query]);
    const parts = [runs, rate, time];
    for (const part of parts) part.panel.from(urlOf("/api/v1/rollups", asked), { sql: true });
    const answer = get("/api/v1/rollups", asked, signal);
    return { asked: answer.then(() => {}, () => {}), drawn: drawOverTime(answer, bucket, span) };
  }

  /** @param {Promise<import("./api.js").Answer>} answer @param {string} bucket @param {[number, number]} span */
  async function drawOverTime(answer, bucket, span) {
    const parts = [runs, rate, time];
    try {
      const { data } = await answer;
      const rows = data.rows, totals = data.totals;
      showTotals(totals);
      const x = rows.map((/** @type {any} */ row) => Date.parse(row.bucket));
      const axis = { x, span, zone: place.zone, step: BUCKET_MS[bucket] };
      moments = [...x, span[1]];
      /** @param {string} name */
      const column = (name) => rows.map((/** @type {any} */ row) => row[name]);
      for (const part of parts) totals.runs === 0 ? part.panel.empty("No runs in this range.") : part.panel.ready();
      if (totals.runs > 0 && totals.success_rate === null) rate.panel.empty("None has finished yet.");
      if (totals.runs > 0 && totals.p50_duration_ms === null) time.panel.empty("None has a duration yet.");
      if (data.truncated) for (const part of parts) part.panel.note.textContent = "The first 1,000 buckets.";
      await runs.chart.draw({
        kind: "bar", ...axis, label: `Runs for each ${bucket}, by status; ${totals.runs} in all`,
        series: STATUSES.filter((status) => totals[status] > 0 || status === "success")
          .map((status) => ({ name: status, y: column(status), colour: `--${status}` })),
      });
      await rate.chart.draw({
        kind: "line", ...axis, format: "percent", label: `Success rate for each ${bucket}; ${percent(totals.success_rate)} in all`,
        series: [{ name: "success rate", y: column("success_rate"), colour: "--success", text: column("success_rate").map(percent) }],
      });
      await time.chart.draw({
        kind: "line", ...axis, format: "ms", label: `Duration for each ${bucket}: p50 ${duration(totals.p50_duration_ms)}, p99 ${duration(totals.p99_duration_ms)} in all`,
        series: ["p50", "p95", "p99"].map((name, index) => ({
          name, y: column(`${name}_duration_ms`), colour: PALETTE[index], text: column(`${name}_duration_ms`).map(duration),
        })),
      });
    } catch (error) {
      for (const part of parts) part.panel.wrong(error);
      shell.fail(error);
    }
  }

  /**
   * Drawn after those that stand above.
   * @param {string} bucket @param {[number, number]} span @param {Query} query @param {AbortSignal} signal
   * @param {Promise<void>} above
   */
  async function byModel(bucket, span, query, signal, above) {
    const asked = /** @type {Query} */ ([
      ["group_by", "model"], ["bucket", bucket], ["tz", place.zone], ["measures", "cost_usd,input_tokens,output_tokens"],
      ["order_by", "bucket"], ["limit", "1000"], ...query,
    ]);
    for (const part of [tokens, cost]) part.panel.from(urlOf("/api/v1/rollups", asked), { sql: true });
    try {
      const { data } = await get("/api/v1/rollups", asked, signal);
      await above;
      const buckets = /** @type {string[]} */ ([...new Set(data.rows.map((/** @type {any} */ row) => row.bucket))]);
      const x = buckets.map((at) => Date.parse(at));
      const axis = { x, span, zone: place.zone, step: BUCKET_MS[bucket] };
      modelMoments = [...x, span[1]];
      /** @type {Map<string, Map<string, any>>} */
      const models = new Map();
      for (const row of data.rows) {
        if (!row.cost_usd && !row.input_tokens && !row.output_tokens) continue;
        const model = row.model ?? NO_MODEL;
        if (!models.has(model)) models.set(model, new Map());
        models.get(model)?.set(row.bucket, row);
      }
      const totals = data.totals;
      const named = [...models].map(([name, rows], index) => ({ name, rows, colour: PALETTE[index % PALETTE.length] }));
      /** @param {Map<string, any>} rows @param {string} measure */
      const column = (rows, measure) => buckets.map((at) => rows.get(at)?.[measure] ?? 0);
      if (!totals.input_tokens && !totals.output_tokens) tokens.panel.empty("No tokens were told.");
      else tokens.panel.ready();
      if (!totals.cost_usd) cost.panel.empty("No cost in this range.");
      else cost.panel.ready();
      if (data.truncated) for (const part of [tokens, cost]) part.panel.note.textContent = "The first 1,000 rows: filter by model, or take a shorter range.";
      await tokens.chart.draw({
        kind: "bar", ...axis, label: `Tokens for each ${bucket}, by model: ${totals.input_tokens} in, ${totals.output_tokens} out in all`,
        series: named.flatMap((model) => [["in", "input_tokens", false], ["out", "output_tokens", true]].map(([way, measure, faint]) => ({
          name: `${model.name} (${way})`, y: column(model.rows, String(measure)), colour: model.colour, faint: Boolean(faint),
        }))),
      });
      await cost.chart.draw({
        kind: "bar", ...axis, format: "money", label: `Cost for each ${bucket}, by model; ${money(totals.cost_usd)} in all`,
        series: named.map((model) => ({ name: model.name, y: column(model.rows, "cost_usd"), colour: model.colour })),
      });
    } catch (error) {
      for (const part of [tokens, cost]) part.panel.wrong(error);
      shell.fail(error);
    }
  }

  /** @param {any} totals */
  function showTotals(totals) {
    /** @type {[string, string, string][]} */
    const shown = [
      ["Runs", count(totals.runs), exact(totals.runs)],
      ["Success", percent(totals.success_rate), `${exact(totals.success)} of the finished ones`],
      ["Failed", count(totals.failure + totals.timeout), `${exact(totals.failure)} failures, ${exact(totals.timeout)} timeouts`],
      ["Running", count(totals.running), exact(totals.running)],
      ["p50", duration(totals.p50_duration_ms), `${totals.p50_duration_ms ?? "–"} ms`],
      ["p95", duration(totals.p95_duration_ms), `${totals.p95_duration_ms ?? "–"} ms`],
      ["Tokens in", count(totals.input_tokens), exact(totals.input_tokens)],
      ["Tokens out", count(totals.output_tokens), exact(totals.output_tokens)],
      ["Cost", money(totals.cost_usd), `${totals.cost_usd ?? "–"} USD`],
    ];
    fill(tiles, shown.map(([name, value, title]) => h("div", { title }, h("dt", {}, name), h("dd", {}, value))));
  }

  /** @param {string} name @param {Panel} panel @param {Query} query @param {AbortSignal} signal */
  async function ranking(name, panel, query, signal) {
    const asked = /** @type {Query} */ ([
      ["group_by", name], ["measures", "runs,success_rate,p95_duration_ms,cost_usd"], ["order_by", "-runs"], ["limit", "8"], ...query,
    ]);
    panel.from(urlOf("/api/v1/rollups", asked), { sql: true });
    try {
      const { data } = await get("/api/v1/rollups", asked, signal);
      if (data.rows.length === 0) { panel.clear(); panel.empty("None in this range."); return; }
      const most = data.rows[0].runs || 1;
      panel.ready();
      // Only the rows are made anew: Chromium keeps a little of every head of a table that it ever laid out.
      if (panel.body.firstChild === null) fill(panel.body, empty(name));
      fill(/** @type {Element} */ (panel.body.querySelector("tbody")), data.rows.map((/** @type {any} */ row) => h("tr", {},
        h("th", { scope: "row" },
          row[name] === null ? h("i", {}, "none") : h("a", { href: place.adding(name, row[name]), title: row[name] }, h("bdi", {}, row[name])),
          meter(row.runs / most)),
        h("td", { class: "number", title: exact(row.runs) }, count(row.runs)),
        h("td", { class: "number" }, percent(row.success_rate)),
        h("td", { class: "number", title: `${row.p95_duration_ms ?? "–"} ms` }, duration(row.p95_duration_ms)),
        h("td", { class: "number", title: `${row.cost_usd} USD` }, money(row.cost_usd)))));
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }

  /** @param {Query} query @param {AbortSignal} signal */
  async function latest(query, signal) {
    const asked = /** @type {Query} */ ([
      ["status", "failure"], ["status", "timeout"], ["limit", "5"], ...query.filter(([name]) => name !== "status"),
    ]);
    failures.from(urlOf("/api/v1/runs", asked), { sql: true });
    try {
      const { data } = await get("/api/v1/runs", asked, signal);
      if (data.runs.length === 0) { failures.clear(); failures.empty("Nothing failed in this range."); return; }
      failures.ready();
      fill(failures.body, h("ul", { class: "failures" }, data.runs.map((/** @type {any} */ one) => h("li", {},
        badge(one.status), " ",
        h("a", { href: place.at(`/runs/${encodeURIComponent(one.event_id)}`), title: one.run_id }, h("bdi", {}, one.agent_name)),
        h("time", { datetime: one.start_time, title: one.start_time }, moment(one.start_time, place.zone)),
        h("p", { title: one.error_summary ?? "" }, one.error_summary ?? "no error was told")))));
    } catch (error) {
      failures.wrong(error);
      shell.fail(error);
    }
  }

  const refresh = seldom(shell.round(load), REFRESH_MS);
  // What is asked for ends with the present bucket: with time another one comes.
  const clock = window.setInterval(() => document.hidden || refresh.ask(), 30_000);

  return {
    /** @param {Place} next */
    show(next) {
      place = next;
      document.title = "Overview – RunLake";
      controls(bar, place);
      abort.abort();
      abort = new AbortController();
      stop();
      stop = listen(place.filters.filter(([name]) => name !== "stale"), { onrun: refresh.ask, onlost: refresh.ask, onstate: shell.state });
      refresh.ask();
    },
    close() {
      window.clearInterval(clock);
      stop();
      refresh.stop();
      abort.abort();
      for (const part of [runs, rate, time, tokens, cost]) part.chart.close();
    },
  };
}

/** A ranking without rows. @param {string} name of what is ranked */
function empty(name) {
  return h("table", { class: "ranking" },
    h("thead", {}, h("tr", {}, ["", "runs", "success", "p95", "cost"].map((title, index) =>
      h("th", { scope: "col", class: index > 0 ? "number" : "" }, title === "" ? h("span", { class: "unseen" }, name) : title)))),
    h("tbody"));
}

/** @param {number} share 0 to 1 */
function meter(share) {
  const bar = h("span", { class: "meter", "aria-hidden": "true" });
  bar.style.width = `${Math.max(1, share * 100)}%`;
  return bar;
}
