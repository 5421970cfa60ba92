// @ts-check
/** Two runs side by side: what differs in their fields, and in what ran below them. */

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { duration, moment } from "./format.js";
import { Panel } from "./panel.js";
import { Place } from "./place.js";
import { nodes } from "./tree.js";

/** @typedef {import("./app.js").Shell} Shell */
/** @typedef {import("./tree.js").TreeNode} TreeNode */

const ALWAYS_DIFFER = ["event_id", "run_id", "created_at", "updated_at"];

/** @param {HTMLElement} main @param {Shell} shell */
export function compare(main, shell) {
  const abort = new AbortController();
  const fields = new Panel("Fields that differ", { wide: true });
  const below = new Panel("What ran below", { wide: true });
  for (const panel of [fields, below]) panel.tools.hidden = true;
  fill(main, h("h1", {}, "Two runs"), h("div", { class: "grid" }, fields.root, below.root));

  /** @param {Place} place */
  async function load(place) {
    const names = [place.search.get("a") ?? "", place.search.get("b") ?? ""];
    const paths = names.map((name) => `/api/v1/runs/${encodeURIComponent(name)}`);
    try {
      const [a, b] = (await Promise.all(paths.map((path) => get(path, [], abort.signal)))).map((answer) => answer.data);
      const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Field"), [a, b].map((run) => h("th", { scope: "col" },
        h("a", { href: place.at(`/runs/${encodeURIComponent(run.event_id)}`) }, run.run_id)))));
      const differing = Object.keys(a).filter((name) => !ALWAYS_DIFFER.includes(name) && JSON.stringify(a[name]) !== JSON.stringify(b[name]));
      fields.ready();
      fill(fields.body, h("div", { class: "scroll" }, h("table", { class: "compare" }, head, h("tbody", {}, differing.map((name) => h("tr", {},
        h("th", { scope: "row" }, name), h("td", {}, shown(name, a[name], place)), h("td", {}, shown(name, b[name], place))))))));
      if (differing.length === 0) fields.empty("They differ in nothing but their ids.");

      const trees = (await Promise.all(paths.map((path) => get(`${path}/tree`, [], abort.signal)))).map((answer) => kinds(nodes(answer.data)));
      const all = [...new Set(trees.flatMap((tree) => [...tree.keys()]))].sort();
      below.ready();
      fill(below.body, h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Agent and job", "Runs", "Runs", "Time", "Time"].map((title, index) => h("th", { scope: "col", class: index > 0 ? "number" : "" }, title)))),
        h("tbody", {}, all.map((kind) => {
          const [left, right] = trees.map((tree) => tree.get(kind) ?? { runs: 0, ms: 0 });
          return h("tr", { class: left.runs === right.runs ? "" : "differs" }, h("th", { scope: "row" }, kind),
            h("td", { class: "number" }, left.runs), h("td", { class: "number" }, right.runs),
            h("td", { class: "number" }, duration(left.ms)), h("td", { class: "number" }, duration(right.ms)));
        })))));
      if (all.length === 0) below.empty("Nothing ran below either.");
      shell.state("");
    } catch (error) {
      fields.wrong(error);
      below.wrong(error);
      shell.fail(error);
    }
  }

  return {
    /** @param {Place} place */
    show(place) { document.title = "Two runs – RunLake"; void load(place); },
    close() { abort.abort(); },
  };
}

/** @param {string} name @param {any} value @param {Place} place */
function shown(name, value, place) {
  if (value === null) return h("i", {}, "null");
  if (name.endsWith("_time") || name.endsWith("_at") || name.endsWith("_timestamp")) return moment(value, place.zone);
  if (name === "duration_ms") return duration(value);
  return typeof value === "object" ? h("pre", {}, JSON.stringify(value, null, 2)) : String(value);
}

/** How many runs of each kind are below a run, and how long they took. @param {TreeNode} root */
function kinds(root) {
  /** @type {Map<string, {runs: number, ms: number}>} */
  const found = new Map();
  /** @param {TreeNode} node */
  const walk = (node) => {
    for (const child of node.children) {
      const kind = `${child.run.agent_name} · ${child.run.job_type}`;
      const sum = found.get(kind) ?? { runs: 0, ms: 0 };
      found.set(kind, { runs: sum.runs + 1, ms: sum.ms + (child.run.duration_ms ?? 0) });
      walk(child);
    }
  };
  walk(root);
  return found;
}
