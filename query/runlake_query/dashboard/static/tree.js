// @ts-check
/** The tree of a run, from its flat form. */

/** @typedef {{run: any, totals: any, children: TreeNode[]}} TreeNode */

/** The tree from its flat form, parents before children. @param {any} data @returns {TreeNode} */
export function nodes(data) {
  /** @type {Map<string, TreeNode>} */
  const known = new Map();
  /** @type {TreeNode | null} */
  let root = null;
  for (const entry of data.runs) {
    const node = { run: entry.run, totals: entry.totals, children: [] };
    known.set(entry.run.event_id, node);
    if (root === null) root = node;
    else (known.get(entry.parent_event_id) ?? root).children.push(node);
  }
  return /** @type {TreeNode} */ (root);
}
