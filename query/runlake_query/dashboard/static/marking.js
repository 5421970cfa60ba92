// @ts-check
/** A span that is marked by dragging over a picture, and a press on one place of it. */

import { h } from "./dom.js";

/** Less is a press with an unsteady hand. */
const LEAST_PX = 5;

/**
 * `area`: where the ends of what can be marked are, in px from the left of the element; null while there is nothing to
 * mark. `onmark` is told the ends of a marked span in the same measure, the lesser first.
 * @param {HTMLElement} plot
 * @param {{area: () => {left: number, right: number} | null, onmark: (from: number, to: number) => void, onpress: (event: PointerEvent) => void}} told
 */
export function marking(plot, { area, onmark, onpress }) {
  const shade = h("div", { class: "mark", hidden: true, "aria-hidden": "true" });
  /** Where it was pressed, and by which pointer. @type {{at: number, pointer: number} | null} */
  let begun = null;
  plot.append(shade);

  /** @param {PointerEvent} event @returns {[number, number] | null} */
  const marked = (event) => {
    const ends = area();
    if (begun === null || ends === null) return null;
    const at = Math.min(Math.max(event.clientX - plot.getBoundingClientRect().left, ends.left), ends.right);
    const from = Math.max(Math.min(begun.at, at), ends.left), to = Math.min(Math.max(begun.at, at), ends.right);
    return to - from < LEAST_PX ? null : [from, to];
  };
  const end = () => {
    begun = null;
    shade.hidden = true;
  };

  plot.addEventListener("pointerdown", (event) => {
    // A second finger is for the page's zoom.
    if (begun !== null) return end();
    if (event.button !== 0 || !event.isPrimary) return;
    begun = { at: event.clientX - plot.getBoundingClientRect().left, pointer: event.pointerId };
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (event.pointerId !== begun?.pointer) return;
    const span = marked(event);
    shade.hidden = span === null;
    if (span === null) return;
    shade.style.left = `${span[0]}px`;
    shade.style.width = `${span[1] - span[0]}px`;
  });
  plot.addEventListener("pointerup", (event) => {
    if (event.pointerId !== begun?.pointer) return;
    const span = marked(event);
    end();
    if (span !== null) onmark(...span);
    else onpress(event);
  });
  plot.addEventListener("pointercancel", end);
}
