// @ts-check
/** One run: what it is, its tree in time, its events, its changes. */

import { get, pages, urlOf } from "./api.js";
import { commitLink } from "./commitlink.js";
import { fill, h, reconcile } from "./dom.js";
import { ago, count, duration, exact, money, moment } from "./format.js";
import { viewer } from "./json.js";
import { open, seldom } from "./live.js";
import { Panel } from "./panel.js";
import { go, Place } from "./place.js";
import { badge } from "./status.js";
import { nodes } from "./tree.js";
import { Waterfall } from "./waterfall.js";

/** @typedef {import("./app.js").Shell} Shell */

const EVENTS_A_PAGE = 1000;
const RUNNING_MS = 2000;

/** @param {HTMLElement} main @param {Shell} shell */
export function run(main, shell) {
  let place = Place.now();
  const name = decodeURIComponent(place.path.slice("/runs/".length));
  const path = `/api/v1/runs/${encodeURIComponent(name)}`;
  const abort = new AbortController();
  let stop = () => {};
  /** @type {any} */
  let shown = null;

  const head = h("div", { class: "run-head" }, h("h1", {}, name));
  const facts = new Panel("Facts");
  const errors = new Panel("Error", { wide: true });
  errors.root.hidden = true;
  const tree = new Panel("Tree", { wide: true });
  const events = new Panel("Events", { wide: true });
  const maps = new Panel("Metrics and context");
  const history = new Panel("Changes", { wide: true });
  const waterfall = new Waterfall(tree.body);
  const timeline = h("ol", { class: "timeline" });
  let pagesOfEvents = 1;
  const moreEvents = h("button", { type: "button", hidden: true, onclick: () => { pagesOfEvents += 1; void loadEvents(); } }, "More events");
  events.body.append(timeline, moreEvents);
  let pagesOfChanges = 1;
  const moreChanges = h("button", { type: "button", onclick: () => { pagesOfChanges += 1; void loadHistory(); } }, "More changes");
  fill(main, head, h("div", { class: "grid two" }, facts.root, maps.root, errors.root, tree.root, events.root, history.root));

  async function load() {
    for (const panel of [facts, maps, errors]) panel.from(path, { csv: null });
    try {
      const { data } = await get(path, [], abort.signal);
      shown = data;
      draw(data);
    } catch (error) {
      facts.wrong(error);
      shell.fail(error);
      // Nothing is known of it: the other parts would say the same again.
      for (const panel of [maps, errors, tree, events, history]) panel.root.hidden = shown === null;
      return;
    }
    for (const panel of [maps, tree, events, history]) panel.root.hidden = false;
    await Promise.all([loadTree(), loadEvents(), loadHistory()]);
  }

  /** @param {any} run */
  function draw(run) {
    document.title = `${run.run_id} – RunLake`;
    fill(head, badge(run.status), h("h1", {}, h("bdi", {}, run.run_id)), h("span", { class: "who" }, h("bdi", {}, run.agent_name), " · ", h("bdi", {}, run.job_type)),
      h("span", { title: `${exact(run.duration_ms)} ms` }, run.duration_ms === null && run.status === "running" ? `for ${duration(Date.now() - Date.parse(run.start_time))}` : duration(run.duration_ms)),
      run.cost_usd === null ? null : h("span", { title: `${run.cost_usd} USD` }, money(run.cost_usd)),
      run.input_tokens === null && run.output_tokens === null ? null
        : h("span", { title: `${exact(run.input_tokens)} tokens in, ${exact(run.output_tokens)} out` }, `${count(run.input_tokens)} → ${count(run.output_tokens)} tokens`),
      run.commit_hash === null ? null : commitLink(run, place), comparing(run, place));
    facts.ready();
    /** @type {[string, Node | string | null][]} */
    const rows = [
      ["Started", `${moment(run.start_time, place.zone)} (${ago(run.start_time, Date.now())})`],
      ["Ended", run.end_time === null ? null : moment(run.end_time, place.zone)],
      ["Parent", run.parent_run_id === null ? null : h("a", { href: place.at(`/runs/${encodeURIComponent(run.parent_run_id)}`) }, h("bdi", {}, run.parent_run_id))],
      ["Items", run.items_discovered === null && run.items_succeeded === null ? null : `${count(run.items_succeeded)} ok, ${count(run.items_failed)} failed, ${count(run.items_skipped)} skipped of ${count(run.items_discovered)}`],
      ["Model", run.model === null ? null : `${run.model}${run.provider === null ? "" : ` (${run.provider})`}`],
      ["Tokens", run.input_tokens === null && run.output_tokens === null ? null : `${exact(run.input_tokens)} in, ${exact(run.output_tokens)} out; cache ${exact(run.cache_read_tokens)} read, ${exact(run.cache_write_tokens)} written`],
      ["Cost", run.cost_usd === null ? null : `${run.cost_usd} USD, ${run.cost_source ?? "source not told"}${run.cost_table_version === null ? "" : ` with price table ${run.cost_table_version}`}`],
      ...["input_summary", "output_summary", "trigger_type", "environment", "host", "product", "product_family", "platform", "website", "item_name", "git_repo", "git_branch", "git_run_tag", "source_ref", "target_ref", "insight_id", "trace_id", "heartbeat_until"]
        .map((field) => /** @type {[string, string | null]} */ ([field.replaceAll("_", " "), run[field]])),
      ["Event id", run.event_id],
      ["Recorded", moment(run.created_at, place.zone)],
      ["Updated", moment(run.updated_at, place.zone)],
    ];
    fill(facts.body, h("dl", { class: "facts" }, rows.filter(([, value]) => value !== null).map(([title, value]) =>
      h("div", {}, h("dt", {}, title), h("dd", {}, value)))));
    maps.ready();
    fill(maps.body, [["metrics_json", "Metrics"], ["context_json", "Context"]].flatMap(([field, title]) => run[field] === null ? [] : [h("h3", {}, title), table(run[field])]));
    if (run.metrics_json === null && run.context_json === null) maps.empty("None were told.");
    errors.root.hidden = run.error_summary === null && run.error_details === null;
    errors.ready();
    fill(errors.body, h("p", { class: "bad" }, run.error_summary ?? ""), run.error_details === null ? null : h("pre", {}, run.error_details));
  }

  async function loadTree() {
    const asked = /** @type {[string, string][]} */ ([["limit", "1000"]]);
    tree.from(urlOf(`${path}/tree`, asked), { csv: null });
    try {
      const { data } = await get(`${path}/tree`, asked, abort.signal);
      tree.ready();
      const root = nodes(data);
      waterfall.draw(root, place, Date.now());
      const all = root.totals;
      tree.note.textContent = all.runs === 1 ? "It has no children."
        : `${exact(all.runs)} runs, ${exact(all.failures)} failed, ${exact(all.running)} running; ${duration(all.elapsed_ms)} in all, `
          + `${count(all.input_tokens)} tokens in, ${count(all.output_tokens)} out, ${money(all.cost_usd)}`
          + `${data.complete ? "" : "; there are more"}${data.truncated ? `; ${exact(data.runs.length)} are shown` : ""}`;
    } catch (error) {
      tree.wrong(error);
    }
  }

  async function loadEvents() {
    const asked = /** @type {[string, string][]} */ ([["limit", String(EVENTS_A_PAGE)]]);
    events.from(urlOf(`${path}/events`, asked), { csv: null });
    try {
      const { items, next } = await pages(pagesOfEvents, async (cursor) => {
        const { data, nextCursor } = await get(`${path}/events`, [...asked, ...cursor], abort.signal);
        return { items: data, next: nextCursor };
      });
      moreEvents.hidden = next === null;
      if (items.length === 0) { fill(timeline); events.empty("None were told."); return; }
      events.ready();
      if (next !== null) fill(events.note, `The first ${exact(items.length)}; `, h("a", { href: `${path}/events` }, "all of them as JSON"));
      const begin = Date.parse(shown.start_time);
      reconcile(timeline, items, (/** @type {any} */ event) => event.event_id, (/** @type {any} */ event, known) => known ?? h("li", {},
        h("time", { datetime: event.ts, title: event.ts }, `+ ${duration(Math.max(0, Date.parse(event.ts) - begin))}`),
        h("span", { title: event.type }, h("bdi", {}, event.type)),
        event.payload === null || Object.keys(event.payload).length === 0 ? h("span") : viewer(event.payload)));
    } catch (error) {
      events.wrong(error);
    }
  }

  async function loadHistory() {
    const asked = `${path}/history`;
    history.from(asked, { csv: null });
    try {
      let complete = true;
      const { items, next } = await pages(pagesOfChanges, async (cursor) => {
        const { data } = await get(asked, cursor, abort.signal);
        complete &&= data.complete;
        return { items: data.changes, next: data.next_cursor };
      });
      history.ready();
      fill(history.body, h("ol", { class: "timeline" }, items.map((/** @type {any} */ change) => h("li", {},
        h("time", { datetime: change.ts, title: `received ${change.received_at}` }, moment(change.ts, place.zone).slice(11)),
        h("span", { title: `by ${change.producer}` }, change.kind), viewer(change.fields)))), next === null ? null : moreChanges);
      if (!complete) history.note.textContent = "The lake does not have the latest ones yet.";
      if (next !== null) history.note.textContent = `The first ${exact(items.length)}.`;
    } catch (error) {
      history.wrong(error);
    }
  }

  const refresh = seldom(shell.round(load), 1000);
  // The stream of a run tells its events; what else changes is asked for while it runs, and mostly answered by 304.
  const clock = window.setInterval(() => { if (!document.hidden && (shown === null || shown.status === "running")) refresh.ask(); }, RUNNING_MS);

  return {
    /** @param {Place} next */
    show(next) {
      place = next;
      stop();
      stop = open(`${path}/events`, { onevent: refresh.ask, onlost: refresh.ask, onstate: shell.state });
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

/** Compare with another run, by its id. @param {any} run @param {Place} place */
function comparing(run, place) {
  return h("form", {
    class: "adder",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      const other = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements[0]).value.trim();
      const search = new URLSearchParams([["a", run.event_id], ["b", other], ["tz", place.zone]]);
      if (other !== "") go(`/compare?${search}`);
    },
  }, h("input", { "aria-label": "Another run", placeholder: "another run id" }), h("button", { type: "submit" }, "Compare"));
}

/** A map as a table: its numbers for people, what is in it folded. @param {Record<string, any>} values */
function table(values) {
  return h("dl", { class: "facts" }, Object.entries(values).map(([name, value]) => h("div", {}, h("dt", { title: name }, name), h("dd", {},
    typeof value === "number" ? h("span", { title: String(value) }, value.toLocaleString("en", { maximumSignificantDigits: 8 }))
      : typeof value === "string" ? value : viewer(value)))));
}
