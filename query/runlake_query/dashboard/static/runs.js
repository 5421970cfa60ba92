// @ts-check
/** Runs: a table that grows as they come. */

import { get, urlOf } from "./api.js";
import { controls } from "./controls.js";
import { fill, h, reconcile } from "./dom.js";
import { ago, count, duration, exact, money, moment } from "./format.js";
import { listen, seldom } from "./live.js";
import { Panel } from "./panel.js";
import { go, Place } from "./place.js";
import { badge } from "./status.js";

/** @typedef {import("./app.js").Shell} Shell */

/**
 * Name, title, how it is shown, whether it is a number.
 * @type {Record<string, {title: string, show: (run: any, place: Place) => Node | string, number?: boolean}>}
 */
const COLUMNS = {
  status: { title: "Status", show: (run) => badge(run.status) },
  start_time: { title: "Started", show: (run, place) => h("time", { datetime: run.start_time, title: `${run.start_time} (${ago(run.start_time, Date.now())})` }, moment(run.start_time, place.zone)) },
  agent_name: { title: "Agent", show: (run) => h("bdi", { title: run.agent_name }, run.agent_name) },
  job_type: { title: "Job", show: (run) => h("bdi", { title: run.job_type }, run.job_type) },
  run_id: { title: "Run", show: (run, place) => h("a", { href: place.at(`/runs/${encodeURIComponent(run.event_id)}`), title: run.run_id }, h("bdi", {}, run.run_id)) },
  duration_ms: { title: "Took", number: true, show: (run) => h("span", { title: `${exact(run.duration_ms)} ms` }, duration(run.duration_ms)) },
  product: { title: "Product", show: (run) => h("bdi", { title: run.product ?? "" }, run.product ?? "") },
  environment: { title: "Environment", show: (run) => h("bdi", { title: run.environment ?? "" }, run.environment ?? "") },
  host: { title: "Host", show: (run) => h("bdi", { title: run.host ?? "" }, run.host ?? "") },
  model: { title: "Model", show: (run) => h("bdi", { title: run.model ?? "" }, run.model ?? "") },
  input_tokens: { title: "Tokens in", number: true, show: (run) => count(run.input_tokens) },
  output_tokens: { title: "Tokens out", number: true, show: (run) => count(run.output_tokens) },
  cost_usd: { title: "Cost", number: true, show: (run) => h("span", { title: run.cost_usd === null ? "not known" : `${run.cost_usd} USD, ${run.cost_source ?? ""}` }, money(run.cost_usd)) },
  items_succeeded: { title: "Items ok", number: true, show: (run) => count(run.items_succeeded) },
  items_failed: { title: "Items failed", number: true, show: (run) => count(run.items_failed) },
  commit_hash: { title: "Commit", show: (run, place) => run.commit_hash === null ? "" : h("a", { href: place.at(`/commits/${encodeURIComponent(run.commit_hash)}`), title: run.commit_hash }, run.commit_hash.slice(0, 10)) },
  parent_run_id: { title: "Parent", show: (run, place) => run.parent_run_id === null ? "" : h("a", { href: place.at(`/runs/${encodeURIComponent(run.parent_run_id)}`) }, h("bdi", {}, run.parent_run_id)) },
  error_summary: { title: "Error", show: (run) => h("bdi", { title: run.error_summary ?? "" }, run.error_summary ?? "") },
};
const DEFAULT_COLUMNS = ["status", "start_time", "agent_name", "job_type", "run_id", "duration_ms", "model", "cost_usd", "commit_hash", "error_summary"];
/** What has no order: long texts. */
const UNSORTED = ["error_summary"];
const NEWEST = "-start_time";
const PAGE = 100;

/** @param {HTMLElement} main @param {Shell} shell */
export function runs(main, shell) {
  let place = Place.now();
  let stop = () => {};
  let abort = new AbortController();
  /** @type {any[]} */
  let shown = [];
  /** @type {string | null} */
  let next = null;
  let total = 0;

  const bar = h("div", { class: "controls" });
  const head = h("tr");
  const body = h("tbody");
  const counted = h("span", { class: "counted", role: "status" });
  const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => void older() }, "Older runs");
  const choice = h("details", { class: "popup columns" });
  const panel = new Panel("Runs", { wide: true });
  panel.body.append(h("div", { class: "scroll" }, h("table", { class: "runs" }, h("thead", {}, head), body)), more);
  fill(main, h("h1", { class: "unseen" }, "Runs"), bar, h("div", { class: "above" }, counted, choice), panel.root);

  const columns = () => {
    const asked = place.search.get("columns")?.split(",").filter((name) => name in COLUMNS);
    return asked === undefined || asked.length === 0 ? DEFAULT_COLUMNS : asked;
  };

  /** A column of ours, with a minus for the largest first. */
  const order = () => {
    const asked = place.search.get("order_by") ?? NEWEST;
    return asked.replace(/^-/, "") in COLUMNS ? asked : NEWEST;
  };

  /** @type {() => [string, string][]} */
  const query = () => [...place.query(Date.now()), ...(order() === NEWEST ? [] : [/** @type {[string, string]} */ (["order_by", order()])])];

  async function load() {
    const asked = /** @type {[string, string][]} */ ([...query(), ["limit", String(Math.max(PAGE, Math.min(shown.length, 1000)))]]);
    panel.from(urlOf("/api/v1/runs", asked), { csv: urlOf("/api/v1/runs", [...place.query(Date.now()), ["format", "csv"]]), sql: true });
    try {
      const { data } = await get("/api/v1/runs", asked, abort.signal);
      // Pages that were added below stay; the newest come in above them.
      const fresh = new Set(data.runs.map((/** @type {any} */ run) => run.event_id));
      const below = shown.length > data.runs.length ? shown.slice(data.runs.length).filter((run) => !fresh.has(run.event_id)) : [];
      if (below.length === 0) next = data.next_cursor;
      shown = [...data.runs, ...below];
      total = data.total;
      draw();
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }

  async function older() {
    if (next === null) return;
    more.disabled = true;
    try {
      const { data } = await get("/api/v1/runs", [...query(), ["limit", String(PAGE)], ["cursor", next]], abort.signal);
      const known = new Set(shown.map((run) => run.event_id));
      shown = [...shown, ...data.runs.filter((/** @type {any} */ run) => !known.has(run.event_id))];
      next = data.next_cursor;
      total = data.total;
      draw();
    } catch (error) {
      panel.wrong(error);
    } finally {
      more.disabled = false;
    }
  }

  function draw() {
    const names = columns();
    const sorted = order();
    if (head.getAttribute("data-mark") !== `${names} ${sorted}`) fill(head, names.map((name) => heading(name, sorted)));
    head.setAttribute("data-mark", `${names} ${sorted}`);
    more.textContent = sorted === NEWEST ? "Older runs" : "More runs";
    reconcile(body, shown, (run) => run.event_id, (run, known) => {
      const mark = `${run.updated_at} ${names.join()} ${place.search.toString()}`;
      if (known !== undefined && known.getAttribute("data-mark") === mark) return known;
      const row = known ?? h("tr", { tabindex: "-1" });
      row.setAttribute("data-mark", mark);
      fill(row, names.map((name) => h("td", { class: COLUMNS[name].number ? "number" : name }, COLUMNS[name].show(run, place))));
      return row;
    });
    if (!body.querySelector("[tabindex='0']")) body.firstElementChild?.setAttribute("tabindex", "0");
    counted.textContent = total === 0 ? "" : `${exact(shown.length)} of ${exact(total)} runs`;
    more.hidden = next === null;
    if (total === 0) panel.empty("No runs match. Take a longer range, or remove a filter.");
    else panel.ready();
  }

  /** A column's title, by which all runs that match are sorted. @param {string} name @param {string} sorted */
  function heading(name, sorted) {
    const { title, number } = COLUMNS[name], descends = sorted === `-${name}`, chosen = descends || sorted === name;
    const shown = UNSORTED.includes(name) ? title : h("button", {
      type: "button", class: "sort", title: `Sort by ${title.toLowerCase()}`,
      onclick: () => {
        // First the way that is asked for most: the newest and the largest on top, names from A on.
        const first = number || name === "start_time" ? `-${name}` : name;
        const next = chosen ? (descends ? name : `-${name}`) : first;
        go(place.with({ order_by: next === NEWEST ? null : next }));
      },
    }, title, h("span", { "aria-hidden": "true" }, chosen ? (descends ? " ▾" : " ▴") : ""));
    return h("th", { scope: "col", class: number ? "number" : "", "aria-sort": chosen ? (descends ? "descending" : "ascending") : null }, shown);
  }

  function chooser() {
    const chosen = columns();
    fill(choice, h("summary", {}, "Columns"), h("fieldset", {}, h("legend", { class: "unseen" }, "Columns"),
      Object.entries(COLUMNS).map(([name, column]) => h("label", {}, h("input", {
        type: "checkbox", checked: chosen.includes(name),
        onchange: (/** @type {Event} */ event) => {
          const on = /** @type {HTMLInputElement} */ (event.target).checked;
          const wanted = Object.keys(COLUMNS).filter((one) => one === name ? on : columns().includes(one));
          history.replaceState(null, "", place.with({ columns: wanted.join(",") }));
          place = Place.now();
          draw();
        },
      }), column.title))));
  }

  // Arrows, j and k go from row to row; Enter opens.
  main.addEventListener("keydown", (event) => {
    const row = event.target instanceof HTMLElement ? event.target.closest("tbody tr") : null;
    if (row === null) return;
    if (event.key === "Enter" && event.target === row) row.querySelector("a")?.click();
    const to = event.key === "ArrowDown" || event.key === "j" ? row.nextElementSibling
      : event.key === "ArrowUp" || event.key === "k" ? row.previousElementSibling : null;
    if (!(to instanceof HTMLElement)) return;
    event.preventDefault();
    row.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  });

  const refresh = seldom(shell.round(load), 1000);
  const clock = window.setInterval(() => document.hidden || refresh.ask(), 30_000);

  return {
    /** @param {Place} to */
    show(to) {
      place = to;
      document.title = "Runs – RunLake";
      controls(bar, place);
      chooser();
      abort.abort();
      abort = new AbortController();
      shown = [];
      next = null;
      stop();
      stop = listen(place.filters.filter(([name]) => name !== "stale"), { onrun: refresh.ask, onlost: refresh.ask, onstate: shell.state });
      refresh.ask();
    },
    close() {
      window.clearInterval(clock);
      stop();
      refresh.stop();
      abort.abort();
    },
  };
}
