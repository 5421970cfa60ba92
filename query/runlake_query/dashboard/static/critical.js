// @ts-check
/** The critical path of a tree of runs: what would have to be quicker for the whole to be quicker. */

/** @typedef {import("./tree.js").TreeNode} TreeNode */

/** When a run ended, as far as that is known. @param {any} run @param {number} now ms since the epoch */
export function endOf(run, now) {
  if (run.end_time !== null) return Date.parse(run.end_time);
  if (run.duration_ms !== null) return Date.parse(run.start_time) + run.duration_ms;
  return run.status === "running" ? now : Date.parse(run.start_time);
}

/**
 * The event_ids on it. From the end of a run backwards: the child that ended last is what it waited for; before that
 * one began, the child that had ended last by then; and so on, and the same for each of these.
 * @param {TreeNode} root
 * @param {number} now
 */
export function critical(root, now) {
  /** @type {Set<string>} */
  const path = new Set();
  const left = [root];
  for (let node = left.pop(); node !== undefined; node = left.pop()) {
    path.add(node.run.event_id);
    const byEnd = [...node.children].sort((a, b) => endOf(b.run, now) - endOf(a.run, now));
    let until = Infinity;
    for (const child of byEnd) {
      if (endOf(child.run, now) > until) continue;
      left.push(child);
      until = Date.parse(child.run.start_time);
    }
  }
  return path;
}
