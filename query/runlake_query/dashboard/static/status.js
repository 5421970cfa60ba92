// @ts-check
/** How a status looks: a colour that the colour-blind can tell apart, and a shape that needs no colour. */

import { h } from "./dom.js";

/** @type {Record<string, string>} */
export const SHAPES = {
  success: "✔", failure: "✖", running: "▶", partial: "◐", timeout: "⧗", cancelled: "⊘", stale: "☾",
};

/** @param {string} status */
export function badge(status) {
  return h("span", { class: `status ${status in SHAPES ? status : ""}` },
    h("span", { "aria-hidden": "true", class: "shape" }, SHAPES[status] ?? "•"), status);
}
