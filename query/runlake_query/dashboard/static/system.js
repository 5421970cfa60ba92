// @ts-check
/** System: what needs somebody's eye, how far and how fast all is, of which files the lake is made. */

import { ApiError, get, text } from "./api.js";
import { fill, h } from "./dom.js";
import { count, duration, exact, size } from "./format.js";
import { seldom } from "./live.js";
import { Panel } from "./panel.js";
import { counters, perSecond } from "./rates.js";

/** @typedef {import("./app.js").Shell} Shell */

const REFRESH_MS = 5000;
const LATE_MS = 5000;
/** What is counted, and what it is called here. @type {[string, string, string][]} */
const RATES = [
  ["Messages, from the feed", "runlake_query_feed_messages_total", "Applied to the read model as the worker told them"],
  ["Messages, from the lake", "runlake_query_lake_messages_total", "Applied from the lake, because the feed had not brought them"],
  ["HTTP requests", "runlake_http_requests_total", "Answered by this process"],
];

/** @param {HTMLElement} main @param {Shell} shell */
export function system(main, shell) {
  const abort = new AbortController();
  const alerts = new Panel("Alerts"), state = new Panel("State"), rates = new Panel("Rates"), files = new Panel("Files of the lake");
  const metrics = new Panel("Metrics of this process", { wide: true });
  fill(main, h("h1", { class: "unseen" }, "System"), h("div", { class: "grid two" }, alerts.root, state.root, rates.root, files.root, metrics.root));
  /** @type {import("./rates.js").Sample | null} */
  let before = null;

  async function load() {
    await Promise.all([ready(), page(), lake(), watch()]);
  }

  /** @param {Panel} panel @param {string} url @param {() => Promise<void>} work */
  async function part(panel, url, work) {
    panel.from(url, { csv: null });
    try {
      await work();
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }

  /** What `/ready` says; while it is not ready that comes as an error. */
  async function asked() {
    try {
      return (await get("/ready", [], abort.signal)).data;
    } catch (error) {
      if (error instanceof ApiError && error.status === 503) return { status: error.message };
      throw error;
    }
  }

  const ready = () => part(state, "/ready", async () => {
    const [{ data: health }, told] = await Promise.all([get("/health", [], abort.signal), asked()]);
    shell.state(told.status === "ready" ? "ready" : "not ready");
    state.ready();
    /** @type {[string, string | Node][]} */
    const rows = [
      ["Read model", told.status], ["Behind the log", told.lag_ms === undefined ? "not known" : duration(told.lag_ms)],
      ["Lake", told.lake_followed ? "followed" : told.reason ?? "not known"],
      ["Ingest", told.ingest_connected ? "answers" : "does not answer: writes are refused, reads go on"],
      ["Feed", told.feed_heard ? "heard" : "not heard: the read model follows the lake"],
      ...workers(told).map((/** @type {any} */ one) => /** @type {[string, string]} */ ([`Worker ${one.worker ?? "not known yet"}`,
        `${one.connected ? "answers" : `does not answer (${one.reason})`}, feed ${one.feed_heard ? "heard" : "not heard"}, reflected up to ${exact(one.position)}`])),
      ["Failures since the start", exact(told.failures)], ["Position", told.position ?? "–"],
      ["Version", health.version], ["Up for", duration(health.uptime_s * 1000)],
    ];
    fill(state.body, facts(rows));
  });

  const page = () => part(metrics, "/metrics", async () => {
    const found = counters(await text("/metrics", abort.signal));
    const now = { at: performance.now(), found };
    const seen = before;
    before = now;
    rates.from("/metrics", { csv: null });
    rates.ready();
    const streams = found.get("runlake_stream_clients");
    /** @type {[string, string | Node][]} */
    const rows = RATES.map(([title, name, said]) => [title, h("span", { title: said }, seen === null ? "…" : `${count(Number(perSecond(seen, now, name).toPrecision(3)))} /s`)]);
    fill(rates.body, facts([...rows, ...(streams === undefined ? [] : [/** @type {[string, string]} */ (["Streams", exact(streams)])])]));
    metrics.ready();
    fill(metrics.body, h("div", { class: "scroll tall", tabindex: "0", role: "group", "aria-label": "Metrics" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Metric"), h("th", { scope: "col", class: "number" }, "Value"))),
      h("tbody", {}, [...found].map(([name, value]) => h("tr", {}, h("td", { class: "id" }, name), h("td", { class: "number", title: String(value) }, exact(value))))))));
  });

  const lake = () => part(files, "/api/v1/lake", async () => {
    const { data } = await get("/api/v1/lake", [], abort.signal);
    files.ready();
    if (data.files === 0) { files.clear(); files.empty("Nothing was flushed yet."); return; }
    fill(files.body, h("table", {},
      h("thead", {}, h("tr", {}, ["Table", "Files", "Size"].map((title, index) => h("th", { scope: "col", class: index > 0 ? "number" : "" }, title)))),
      h("tbody", {}, [...data.tables, { table: "all", files: data.files, bytes: data.bytes }].map((/** @type {any} */ one) => h("tr", { class: one.table === "all" ? "differs" : "" },
        h("th", { scope: "row" }, one.table), h("td", { class: "number" }, exact(one.files)), h("td", { class: "number", title: `${exact(one.bytes)} bytes` }, size(one.bytes)))))));
  });

  const watch = () => part(alerts, "/ready", async () => {
    const [told, books, stale, refused] = await Promise.all([
      asked(), get("/api/v1/producers", [["limit", "1000"]], abort.signal),
      get("/api/v1/rollups", [["measures", "stale"]], abort.signal), get("/api/v1/quarantine", [["limit", "1"]], abort.signal),
    ]);
    const gaps = books.data.producers.filter((/** @type {any} */ one) => one.gaps > 0).length;
    /** @type {[boolean, string, string][]} */
    const rules = [
      [told.status !== "ready", told.status, ""],
      [told.lag_ms > LATE_MS, `The read model is ${duration(told.lag_ms)} behind the log.`, ""],
      [told.lake_followed === false, `The lake cannot be read; what it alone has is not answered: ${told.reason}`, ""],
      [told.ingest_connected === false, without(told, "connected", "These workers do not answer; writes of their runs are refused, agents keep what they send:")
        ?? "Ingest does not answer: writes are refused, agents keep what they send.", ""],
      [told.feed_heard === false, without(told, "feed_heard", "The feeds of these workers are not heard; what they took is shown late by a flush:")
        ?? "The feed is not heard: what is shown is late by a flush.", ""],
      [told.failures > 0, `The follower failed ${exact(told.failures)} times since the start; its log says why.`, ""],
      [stale.data.totals.stale > 0, `${exact(stale.data.totals.stale)} running runs have not given the sign of life that they promised.`, "/runs?stale=true&range=90d"],
      [gaps > 0, `${exact(gaps)} producers have gaps: messages that they numbered have not come.`, "/producers"],
      [refused.data.total > 0, `${exact(refused.data.total)} messages were refused.`, "/quarantine"],
    ];
    const found = rules.filter(([holds]) => holds);
    alerts.ready();
    fill(alerts.body, h("ul", { class: "alerts" }, found.map(([, said, href]) =>
      h("li", {}, h("span", { "aria-hidden": "true" }, "▲ "), href === "" ? said : h("a", { href }, said)))));
    if (found.length === 0) alerts.empty("Nothing needs you.");
  });

  const refresh = seldom(shell.round(load), 1000);
  const clock = window.setInterval(() => document.hidden || refresh.ask(), REFRESH_MS);
  return {
    show() { document.title = "System – RunLake"; refresh.ask(); },
    close() { window.clearInterval(clock); refresh.stop(); abort.abort(); },
  };
}

/** The ingest workers, where they are several. @param {any} told @returns {any[]} */
function workers(told) {
  return told.workers?.length > 1 ? told.workers : [];
}

/** `said` and the workers without `what`; null where there is but one. @param {any} told @param {string} what @param {string} said */
function without(told, what, said) {
  const found = workers(told).filter((one) => !one[what]).map((one) => one.worker ?? "not known yet");
  return found.length === 0 ? null : `${said} ${found.join(", ")}`;
}

/** @param {[string, string | Node][]} rows */
function facts(rows) {
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}
