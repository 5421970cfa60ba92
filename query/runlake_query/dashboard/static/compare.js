// @ts-check
/** Two runs side by side: what differs in their fields, and in what ran below them. */

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { duration, exact, money, moment } from "./format.js";
import { Panel } from "./panel.js";
import { Place } from "./place.js";
import { badge } from "./status.js";
import { nodes } from "./tree.js";
import { paired } from "./treediff.js";

/** @typedef {import("./app.js").Shell} Shell */
/** @typedef {import("./tree.js").TreeNode} TreeNode */
/** @typedef {import("./treediff.js").Pair} Pair */

const ALWAYS_DIFFER = ["event_id", "run_id", "created_at", "updated_at"];
const MAX_PAIRS = 1000;
/** Two durations differ when one is so many times the other, and by more than a person waits for. */
const SLOWER = 1.5, NOTICED_MS = 100;

/** @param {HTMLElement} main @param {Shell} shell */
export function compare(main, shell) {
  let abort = new AbortController();
  const fields = new Panel("Fields that differ", { wide: true });
  const below = new Panel("What ran below", { wide: true });
  const all = h("input", { type: "checkbox", onchange: () => draw() });
  /** @type {() => void} */
  let draw = () => {};
  for (const panel of [fields, below]) panel.tools.hidden = true;
  fill(main, h("h1", {}, "Two runs"), h("div", { class: "grid" }, fields.root, below.root));

  /** @param {Place} place */
  async function load(place) {
    abort.abort();
    abort = new AbortController();
    const names = [place.search.get("a") ?? "", place.search.get("b") ?? ""];
    if (names.includes("")) {
      for (const panel of [fields, below]) panel.empty("Two runs are compared from the page of one of them, by “Compare”.");
      return;
    }
    const paths = names.map((name) => `/api/v1/runs/${encodeURIComponent(name)}`);
    try {
      const [a, b] = (await Promise.all(paths.map((path) => get(path, [], abort.signal)))).map((answer) => answer.data);
      drawFields(a, b, place);
      const trees = await Promise.all(paths.map((path) => get(`${path}/tree`, [["limit", "1000"]], abort.signal)));
      const [left, right] = trees.map((answer) => nodes(answer.data));
      const partial = trees.some(({ data }) => data.truncated || !data.complete);
      const pairs = paired(left, right);
      draw = () => drawTrees(pairs, place, partial);
      draw();
    } catch (error) {
      for (const panel of [fields, below]) panel.wrong(error);
      shell.fail(error);
    }
  }

  /** @param {any} a @param {any} b @param {Place} place */
  function drawFields(a, b, place) {
    const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Field"), [a, b].map((run) => h("th", { scope: "col" },
      h("a", { href: place.at(`/runs/${encodeURIComponent(run.event_id)}`), title: run.run_id }, h("bdi", {}, run.run_id))))));
    const differing = Object.keys(a).filter((name) => !ALWAYS_DIFFER.includes(name) && JSON.stringify(a[name]) !== JSON.stringify(b[name]));
    fields.ready();
    fill(fields.body, h("div", { class: "scroll" }, h("table", { class: "compare" }, head, h("tbody", {}, differing.map((name) => h("tr", {},
      h("th", { scope: "row" }, name), h("td", {}, shown(name, a[name], place)), h("td", {}, shown(name, b[name], place))))))));
    if (differing.length === 0) fields.empty("They differ in nothing but their ids.");
  }

  /** @param {Pair[]} pairs @param {Place} place @param {boolean} partial */
  function drawTrees(pairs, place, partial) {
    const roots = pairs[0], rest = pairs.slice(1);
    const different = rest.filter((pair) => differs(pair) !== "");
    const rows = (all.checked ? rest : different).slice(0, MAX_PAIRS);
    below.ready();
    if (rest.length === 0) { fill(below.body); below.empty("Nothing ran below either."); return; }
    below.note.textContent = `${exact(rest.length)} pairs, of which ${exact(different.length)} differ`
      + `${rows.length < (all.checked ? rest : different).length ? `; the first ${exact(rows.length)} are shown` : ""}${partial ? "; the trees are larger than what was read of them" : ""}`;
    fill(below.body, h("label", { class: "hint" }, all, " those that do not differ, too"), h("div", { class: "scroll" }, h("table", { class: "trees" },
      h("thead", {}, h("tr", {}, ["Agent and job", "Difference", "Left", "Right", "Left took", "Right took", "Left cost", "Right cost"].map((title, index) =>
        h("th", { scope: "col", class: index > 3 ? "number" : "" }, title)))),
      h("tbody", {}, [roots, ...rows].map((pair) => row(pair, place))))));
  }

  return {
    /** @param {Place} place */
    show(place) { document.title = "Two runs – RunLake"; void shell.round(() => load(place))(); },
    close() { abort.abort(); },
  };
}

/** @param {Pair} pair @param {Place} place */
function row(pair, place) {
  const node = /** @type {TreeNode} */ (pair.left ?? pair.right), said = differs(pair);
  const name = h("th", { scope: "row" }, h("bdi", {}, node.run.agent_name), " · ", h("bdi", {}, node.run.job_type), node.run.item_name === null ? "" : h("bdi", { class: "item" }, ` ${node.run.item_name}`));
  name.style.paddingLeft = `${.5 + Math.min(pair.depth, 20)}rem`;
  const sides = [pair.left, pair.right];
  return h("tr", { class: said === "" || pair.depth === 0 ? "" : "differs" }, name, h("td", {}, pair.depth === 0 ? "" : said),
    sides.map((side) => h("td", {}, side === null ? "" : h("a", { href: place.at(`/runs/${encodeURIComponent(side.run.event_id)}`) }, badge(side.run.status)))),
    sides.map((side) => h("td", { class: "number", title: side === null ? "" : `${exact(side.run.duration_ms)} ms` }, side === null ? "" : duration(side.run.duration_ms))),
    sides.map((side) => h("td", { class: "number", title: side === null ? "" : `${side.run.cost_usd} USD` }, side === null ? "" : money(side.run.cost_usd))));
}

/** In what two runs differ, in words; empty when in nothing that matters. @param {Pair} pair */
function differs({ left, right }) {
  if (left === null) return "only right";
  if (right === null) return "only left";
  const said = [];
  if (left.run.status !== right.run.status) said.push("status");
  if (left.run.error_summary !== right.run.error_summary) said.push("error");
  const a = left.run.duration_ms, b = right.run.duration_ms;
  if (a !== null && b !== null && Math.abs(a - b) >= NOTICED_MS && Math.max(a, b) >= SLOWER * Math.min(a, b)) said.push(b > a ? "slower" : "quicker");
  if (left.run.model !== right.run.model) said.push("model");
  return said.join(", ");
}

/** @param {string} name @param {any} value @param {Place} place */
function shown(name, value, place) {
  if (value === null) return h("i", {}, "null");
  if (name.endsWith("_time") || name.endsWith("_at") || name.endsWith("_timestamp")) return h("span", { title: value }, moment(value, place.zone));
  if (name === "duration_ms") return h("span", { title: `${exact(value)} ms` }, duration(value));
  if (name === "error_details") return h("pre", {}, value);
  return typeof value === "object" ? h("pre", {}, JSON.stringify(value, null, 2)) : String(value);
}
