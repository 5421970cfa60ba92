// @ts-check
/** A JSON value that unfolds. */

import { h } from "./dom.js";

/** @param {unknown} value @returns {HTMLElement} */
export function viewer(value) {
  if (value === null || typeof value !== "object" || Object.keys(value).length === 0) {
    return h("code", {}, JSON.stringify(value));
  }
  const line = JSON.stringify(value);
  return h("details", {}, h("summary", {}, line.length > 200 ? `${line.slice(0, 200)}…` : line), h("pre", {}, JSON.stringify(value, null, 2)));
}
