// @ts-check
/** The tree of a run on a real time axis: who waited for whom, and which branch took the time. */

import { fill, h } from "./dom.js";
import { duration, exact } from "./format.js";
import { SHAPES } from "./status.js";

/** @typedef {import("./place.js").Place} Place */
/** @typedef {import("./tree.js").TreeNode} TreeNode */

const MAX_ROWS = 2000;

/**
 * The runs of the critical path (Kelley and Walker, 1959): from the root, each time the child that ended last.
 * @param {TreeNode} root
 * @param {number} now
 */
function critical(root, now) {
  /** @type {Set<string>} */
  const path = new Set();
  /** @type {TreeNode | undefined} */
  let node = root;
  while (node !== undefined) {
    path.add(node.run.event_id);
    node = node.children.reduce((/** @type {TreeNode | undefined} */ last, child) =>
      last === undefined || endOf(child.run, now) > endOf(last.run, now) ? child : last, undefined);
  }
  return path;
}

/** @param {any} run @param {number} now */
function endOf(run, now) {
  if (run.end_time !== null) return Date.parse(run.end_time);
  if (run.duration_ms !== null) return Date.parse(run.start_time) + run.duration_ms;
  return run.status === "running" ? now : Date.parse(run.start_time);
}

export class Waterfall {
  /** @param {HTMLElement} place */
  constructor(place) {
    this.place = place;
    /** @type {Set<string>} */
    this.folded = new Set();
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
    /** @type {HTMLElement[]} */
    const cells = [];
    /** @param {TreeNode} node @param {number} depth */
    const rows = (node, depth) => {
      if (cells.length / 3 >= MAX_ROWS) return;
      const run = node.run, id = run.event_id;
      const start = Date.parse(run.start_time), end = endOf(run, now);
      const name = h("div", {},
        node.children.length === 0 ? h("span", { class: "fold" }, " ") : h("button", {
          type: "button", class: "fold", "aria-expanded": String(!this.folded.has(id)), "aria-label": `Children of ${run.run_id}`,
          onclick: () => { if (!this.folded.delete(id)) this.folded.add(id); this.draw(root, where, now); },
        }, this.folded.has(id) ? "▸" : "▾"),
        h("span", { class: `status ${run.status}`, title: run.status }, `${SHAPES[run.status] ?? "•"} `),
        h("a", { href: where.at(`/runs/${encodeURIComponent(id)}`), title: run.run_id }, `${run.agent_name} · ${run.job_type}`));
      name.style.paddingLeft = `${depth * 14}px`;
      const bar = h("span", { class: `bar ${run.status} ${path.has(id) ? "critical" : ""}` });
      bar.style.left = `${((start - from) / span) * 100}%`;
      bar.style.width = `${Math.max(0, (end - start) / span) * 100}%`;
      const told = `${run.status}, from ${duration(start - from)} after the start, ${duration(end - start)}${node.totals.runs > 1 ? `; ${exact(node.totals.runs)} runs, ${exact(node.totals.failures)} failed, ${node.totals.cost_usd} USD` : ""}${path.has(id) ? ", on the critical path" : ""}`;
      cells.push(name, h("div", { class: "lane", title: told }, bar, h("span", { class: "unseen" }, told)),
        h("div", { class: "number", title: `${exact(run.duration_ms)} ms` }, duration(run.duration_ms ?? (run.status === "running" ? end - start : null))));
      if (!this.folded.has(id)) node.children.forEach((child) => rows(child, depth + 1));
    };
    rows(root, 0);
    fill(this.place, h("div", { class: "waterfall" }, cells));
  }
}
