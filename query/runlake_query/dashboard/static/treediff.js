// @ts-check
/** What two trees have in common: their runs in pairs, by what they did and in the order of it. */

/** @typedef {import("./tree.js").TreeNode} TreeNode */
/** @typedef {{left: TreeNode | null, right: TreeNode | null, depth: number}} Pair */

/** What a run did: two of them are the same work. @param {TreeNode} node */
function work(node) {
  return JSON.stringify([node.run.agent_name, node.run.job_type, node.run.item_name]);
}

/**
 * Parents before their children. The children of a pair are paired by their work, the first with the first of it; what
 * has none on the other side stands alone, with all below it.
 * @param {TreeNode} left
 * @param {TreeNode} right
 * @returns {Pair[]}
 */
export function paired(left, right) {
  /** @type {Pair[]} */
  const pairs = [];
  /** @param {Pair} pair */
  const walk = (pair) => {
    pairs.push(pair);
    for (const child of children(pair.left, pair.right)) walk({ ...child, depth: pair.depth + 1 });
  };
  walk({ left, right, depth: 0 });
  return pairs;
}

/** @param {TreeNode | null} left @param {TreeNode | null} right */
function children(left, right) {
  /** @type {Map<string, TreeNode[]>} */
  const waiting = new Map();
  for (const node of right?.children ?? []) waiting.set(work(node), [...(waiting.get(work(node)) ?? []), node]);
  /** @type {{left: TreeNode | null, right: TreeNode | null}[]} */
  const found = (left?.children ?? []).map((node) => ({ left: node, right: waiting.get(work(node))?.shift() ?? null }));
  const taken = new Set(found.map((pair) => pair.right));
  for (const node of right?.children ?? []) if (!taken.has(node)) found.push({ left: null, right: node });
  return found;
}
