// @ts-check
/** System: is the read model in step, does ingest answer, what does this process do. */

import { ApiError, get } from "./api.js";
import { fill, h } from "./dom.js";
import { duration, exact } from "./format.js";
import { seldom } from "./live.js";
import { Panel } from "./panel.js";

/** @typedef {import("./app.js").Shell} Shell */

/** @param {HTMLElement} main @param {Shell} shell */
export function system(main, shell) {
  const abort = new AbortController();
  const state = new Panel("State");
  const metrics = new Panel("Metrics of this process", { wide: true });
  fill(main, h("h1", { class: "unseen" }, "System"), h("div", { class: "grid" }, state.root, metrics.root));

  async function load() {
    await Promise.all([ready(), page()]);
  }

  async function ready() {
    state.from("/ready");
    state.csv.hidden = true;
    try {
      const [{ data: health }, answer] = await Promise.all([
        get("/health", [], abort.signal),
        get("/ready", [], abort.signal).catch((error) => {
          if (error instanceof ApiError && error.status === 503) return { data: { status: error.message } };
          throw error;
        }),
      ]);
      const told = answer.data;
      shell.state(told.status);
      state.ready();
      /** @type {[string, string | Node][]} */
      const rows = [
        ["Read model", told.status], ["Behind the log", told.lag_ms === undefined ? "not known" : duration(told.lag_ms)],
        ["Ingest", told.ingest_connected ? "answers" : "does not answer: writes are refused, reads go on"],
        ["Feed", told.feed_heard ? "heard" : "not heard: the read model follows the lake"],
        ["Failures since the start", exact(told.failures)], ["Position", told.position ?? "–"],
        ["Version", health.version], ["Up for", duration(health.uptime_s * 1000)],
      ];
      fill(state.body, h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
    } catch (error) {
      state.wrong(error);
      shell.fail(error);
    }
  }

  async function page() {
    metrics.from("/metrics");
    metrics.csv.hidden = true;
    try {
      const response = await fetch("/metrics", { signal: abort.signal, headers: { Accept: "text/plain" } });
      if (!response.ok) throw new ApiError(response.status, response.statusText);
      const text = await response.text();
      metrics.ready();
      const rows = text.split("\n").filter((line) => line !== "" && !line.startsWith("#") && !/_bucket\{|_created/.test(line))
        .map((line) => { const at = line.lastIndexOf(" "); return [line.slice(0, at), line.slice(at + 1)]; });
      fill(metrics.body, h("div", { class: "scroll tall", tabindex: "0", role: "group", "aria-label": "Metrics" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Metric"), h("th", { scope: "col", class: "number" }, "Value"))),
        h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("td", { class: "id" }, name), h("td", { class: "number", title: value }, exact(Number(value)))))))));
    } catch (error) {
      metrics.wrong(error);
    }
  }

  const refresh = seldom(load, 1000);
  const clock = window.setInterval(() => document.hidden || refresh.ask(), 5000);
  return {
    show() { document.title = "System – RunLake"; refresh.ask(); },
    close() { window.clearInterval(clock); refresh.stop(); abort.abort(); },
  };
}
