// @ts-check
/** How fast counters grow between two looks at a page of Prometheus. */

/** @typedef {{at: number, found: Map<string, number>}} Sample `at` in ms of any clock */

/** The values of a page by name and labels, without those of histograms. @param {string} page @returns {Map<string, number>} */
export function counters(page) {
  const lines = page.split("\n").filter((line) => line !== "" && !line.startsWith("#") && !/_bucket\{|_created/.test(line));
  return new Map(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

/** Of all that bear this name, whatever their labels. @param {Sample} before @param {Sample} now @param {string} name */
export function perSecond(before, now, name) {
  const grown = sum(now.found, name) - sum(before.found, name);
  return Math.max(0, grown) / Math.max(0.001, (now.at - before.at) / 1000);
}

/** @param {Map<string, number>} found @param {string} name */
function sum(found, name) {
  let all = 0;
  for (const [key, value] of found) if (key === name || key.startsWith(`${name}{`)) all += value;
  return all;
}
