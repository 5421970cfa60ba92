// @ts-check
/** Commits: which runs a commit came of. */

import { get, urlOf } from "./api.js";
import { fill, h } from "./dom.js";
import { count, duration, exact, money, moment, percent } from "./format.js";
import { seldom } from "./live.js";
import { Panel } from "./panel.js";
import { controls } from "./controls.js";
import { Place } from "./place.js";
import { badge } from "./status.js";

/** @typedef {import("./app.js").Shell} Shell */

/** @param {HTMLElement} main @param {Shell} shell */
export function commits(main, shell) {
  let place = Place.now();
  let abort = new AbortController();
  const bar = h("div", { class: "controls" });
  const panel = new Panel("Commits", { wide: true });
  fill(main, h("h1", { class: "unseen" }, "Commits"), bar, panel.root);

  async function load() {
    const sha = place.path.startsWith("/commits/") ? decodeURIComponent(place.path.slice("/commits/".length)) : "";
    try {
      await (sha === "" ? list() : one(sha));
      shell.state("");
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }

  async function list() {
    const asked = /** @type {[string, string][]} */ ([
      ["group_by", "commit_hash"], ["measures", "runs,success_rate,cost_usd,first_start_time"], ["order_by", "-first_start_time"], ["limit", "200"],
      ...place.query(Date.now()),
    ]);
    panel.from(urlOf("/api/v1/rollups", asked), { sql: true });
    const { data } = await get("/api/v1/rollups", asked, abort.signal);
    const rows = data.rows.filter((/** @type {any} */ row) => row.commit_hash !== null);
    if (rows.length === 0) { panel.clear(); panel.empty("No run in this range has a commit."); return; }
    panel.ready();
    fill(panel.body, h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Commit", "First run", "Runs", "Success", "Cost"].map((title, index) => h("th", { scope: "col", class: index > 1 ? "number" : "" }, title)))),
      h("tbody", {}, rows.map((/** @type {any} */ row) => h("tr", {},
        h("th", { scope: "row", class: "id" }, h("a", { href: place.at(`/commits/${encodeURIComponent(row.commit_hash)}`) }, row.commit_hash)),
        h("td", {}, moment(row.first_start_time, place.zone)),
        h("td", { class: "number", title: exact(row.runs) }, count(row.runs)),
        h("td", { class: "number" }, percent(row.success_rate)),
        h("td", { class: "number" }, money(row.cost_usd))))))));
  }

  /** @param {string} sha */
  async function one(sha) {
    const path = `/api/v1/commits/${encodeURIComponent(sha)}/runs`;
    const asked = /** @type {[string, string][]} */ ([["limit", "1000"]]);
    panel.from(urlOf(path, asked), { csv: null });
    const { data } = await get(path, asked, abort.signal);
    panel.ready();
    fill(panel.body, h("p", { class: "counted" }, h("span", { class: "id" }, data.commit_hash), ` came of ${exact(data.associations.length)} runs; with those that launched them and all below, ${exact(data.total)}`),
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Status", "Started", "Agent", "Job", "Run", "Took", "Cost"].map((title, index) => h("th", { scope: "col", class: index > 4 ? "number" : "" }, title)))),
        h("tbody", {}, data.runs.map((/** @type {any} */ { run, depth, associated }) => h("tr", { class: associated ? "differs" : "" },
          h("td", {}, "· ".repeat(depth), badge(run.status)), h("td", {}, moment(run.start_time, place.zone)), h("td", { class: "name", title: run.agent_name }, h("bdi", {}, run.agent_name)), h("td", { class: "name", title: run.job_type }, h("bdi", {}, run.job_type)),
          h("td", { class: "name" }, h("a", { href: place.at(`/runs/${encodeURIComponent(run.event_id)}`), title: run.run_id }, h("bdi", {}, run.run_id))),
          h("td", { class: "number" }, duration(run.duration_ms)), h("td", { class: "number" }, money(run.cost_usd))))))));
  }

  const refresh = seldom(shell.round(load), 1000);
  return {
    /** @param {Place} next */
    show(next) {
      place = next;
      document.title = "Commits – RunLake";
      if (place.path === "/commits") controls(bar, place);
      else fill(bar);
      abort.abort();
      abort = new AbortController();
      refresh.ask();
    },
    close() { refresh.stop(); abort.abort(); },
  };
}
