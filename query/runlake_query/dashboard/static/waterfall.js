// @ts-check
/** The tree of a run on a real time axis: who waited for whom, and which branch took the time. */

import { critical, endOf } from "./critical.js";
import { fill, h } from "./dom.js";
import { duration, exact, ticks } from "./format.js";
import { SHAPES } from "./status.js";

/** @typedef {import("./place.js").Place} Place */
/** @typedef {import("./tree.js").TreeNode} TreeNode */

const MAX_ROWS = 2000;
const TICKS = 6;

export class Waterfall {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    /** @type {Set<string>} */
    this.folded = new Set();
    this.onlyCritical = false;
  }

  /** @param {TreeNode} root @param {Place} where @param {number} now ms since the epoch */
  draw(root, where, now) {
    let from = Infinity, to = -Infinity;
    /** @param {TreeNode} node */
    const measure = (node) => {
      from = Math.min(from, Date.parse(node.run.start_time));
      to = Math.max(to, endOf(node.run, now));
      node.children.forEach(measure);
    };
    measure(root);
    const span = Math.max(1, to - from);
    const path = critical(root, now);
    const again = () => this.draw(root, where, now);
    /** @type {HTMLElement[]} */
    const cells = [];
    /** @param {TreeNode} node @param {number} depth */
    const rows = (node, depth) => {
      if (cells.length / 3 >= MAX_ROWS || (this.onlyCritical && !path.has(node.run.event_id))) return;
      cells.push(...this.row(node, depth, { from, span, now, where, path, again }));
      if (!this.folded.has(node.run.event_id)) node.children.forEach((child) => rows(child, depth + 1));
    };
    rows(root, 0);
    const focused = document.activeElement?.getAttribute("data-fold");
    fill(this.place, this.tools(root, path, again),
      h("div", { class: "waterfall" }, h("div", { class: "axis" }), axis(span), h("div", { class: "axis" }), cells));
    if (focused) /** @type {HTMLElement | null} */ (this.place.querySelector(`[data-fold="${CSS.escape(focused)}"]`))?.focus();
  }

  /** @param {TreeNode} root @param {Set<string>} path @param {() => void} again */
  tools(root, path, again) {
    if (root.children.length === 0) return null;
    /** @type {string[]} */
    const parents = [];
    /** @param {TreeNode} node */
    const collect = (node) => {
      if (node.children.length > 0 && node !== root) parents.push(node.run.event_id);
      node.children.forEach(collect);
    };
    collect(root);
    return h("div", { class: "fold-tools" },
      h("button", {
        type: "button", "aria-pressed": String(this.onlyCritical),
        onclick: () => { this.onlyCritical = !this.onlyCritical; again(); },
      }, `Critical path (${exact(path.size)} runs)`),
      parents.length === 0 ? null : h("button", { type: "button", onclick: () => { this.folded = new Set(parents); again(); } }, "Fold all"),
      parents.length === 0 ? null : h("button", { type: "button", onclick: () => { this.folded.clear(); again(); } }, "Unfold all"));
  }

  /**
   * Name, bar, and how long it took.
   * @param {TreeNode} node
   * @param {number} depth
   * @param {{from: number, span: number, now: number, where: Place, path: Set<string>, again: () => void}} drawn
   */
  row(node, depth, { from, span, now, where, path, again }) {
    const run = node.run, id = run.event_id, folded = this.folded.has(id);
    const start = Date.parse(run.start_time), end = endOf(run, now), onPath = path.has(id);
    const name = h("div", { class: onPath ? "critical" : "" },
      node.children.length === 0 ? h("span", { class: "fold" }, " ") : h("button", {
        type: "button", class: "fold", "data-fold": id, "aria-expanded": String(!folded), "aria-label": `Children of ${run.run_id}`,
        onclick: () => { if (!this.folded.delete(id)) this.folded.add(id); again(); },
      }, folded ? "▸" : "▾"),
      h("span", { class: `status ${run.status}`, title: run.status }, `${SHAPES[run.status] ?? "•"} `),
      h("a", { href: where.at(`/runs/${encodeURIComponent(id)}`), title: run.run_id }, h("bdi", {}, run.agent_name), " · ", h("bdi", {}, run.job_type)),
      run.item_name === null ? null : h("span", { class: "item", title: run.item_name }, " ", h("bdi", {}, run.item_name)));
    name.style.paddingLeft = `${Math.min(depth, 20) * 14}px`;
    const bar = h("span", { class: `bar ${run.status} ${onPath ? "critical" : ""}` });
    bar.style.left = `${((start - from) / span) * 100}%`;
    bar.style.width = `${Math.max(0, (end - start) / span) * 100}%`;
    const below = node.totals.runs > 1 ? `; ${exact(node.totals.runs)} runs, ${exact(node.totals.failures)} failed, ${node.totals.cost_usd} USD` : "";
    const told = `${run.status}, from ${duration(start - from)} after the start, ${duration(end - start)}${below}${onPath ? ", on the critical path" : ""}`;
    return [name, h("div", { class: "lane", title: told }, bar, h("span", { class: "unseen" }, told)),
      h("div", { class: "number", title: `${exact(run.duration_ms)} ms` }, duration(run.duration_ms ?? (run.status === "running" ? end - start : null)))];
  }
}

/** Round times since the start. @param {number} span ms */
function axis(span) {
  const { tickvals, ticktext } = ticks(span, TICKS);
  return h("div", { class: "lane axis", "aria-hidden": "true" }, tickvals.map((value, index) => {
    const tick = h("span", { class: "tick" }, ticktext[index]);
    tick.style.left = `${(value / span) * 100}%`;
    return tick;
  }));
}
