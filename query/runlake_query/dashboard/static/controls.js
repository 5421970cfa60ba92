// @ts-check
/** The bar above every view of runs: range, zone, filters. What it changes is the URL. */

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { config, go, iso, RANGES } from "./place.js";

/** @typedef {import("./place.js").Place} Place */

const ZONES = /** @type {string[]} */ (/** @type {any} */ (Intl).supportedValuesOf?.("timeZone") ?? ["UTC"]);

/** @param {HTMLElement} bar @param {Place} place */
export function controls(bar, place) {
  const zones = h("datalist", { id: "zones" }, ["UTC", ...ZONES].map((name) => h("option", { value: name })));
  const zone = h("input", {
    list: "zones", value: place.zone, "aria-label": "Time zone", class: "zone", spellcheck: "false",
    onchange: (/** @type {Event} */ event) => {
      const field = /** @type {HTMLInputElement} */ (event.target);
      try {
        new Intl.DateTimeFormat("en", { timeZone: field.value });
        go(place.with({ tz: field.value }));
      } catch {
        field.setCustomValidity("This is no time zone");
        field.reportValidity();
      }
    },
  });
  fill(bar, ranges(place), zone, zones, chips(place), adder(place));
}

/** @param {Place} place */
function ranges(place) {
  const buttons = RANGES.map(([name]) => h("button", {
    type: "button", "aria-pressed": String(place.rangeName === name),
    onclick: () => go(place.with({ range: name, from: null, to: null })),
  }, name));
  const { from, to } = place.range(Date.now());
  const custom = h("details", { class: "popup" },
    h("summary", { "aria-label": "Custom range", class: place.rangeName === "custom" ? "chosen" : "" },
      place.rangeName === "custom" ? `${local(from)} – ${local(to)}` : "custom"),
    h("form", {
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
        const first = new Date(String(form.get("from"))), last = new Date(String(form.get("to")));
        if (!(first < last)) return;
        go(place.with({ from: iso(first), to: iso(last), range: null }));
      },
    },
    h("label", {}, "From", h("input", { type: "datetime-local", name: "from", required: true, value: local(from) })),
    h("label", {}, "to", h("input", { type: "datetime-local", name: "to", required: true, value: local(to) })),
    h("p", { class: "hint" }, "In this machine's own zone."),
    h("button", { type: "submit" }, "Show")));
  return h("div", { class: "ranges", role: "group", "aria-label": "Range" }, buttons, custom);
}

/** For a field of type datetime-local. @param {Date} time */
function local(time) {
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** @param {Place} place */
function chips(place) {
  return h("ul", { class: "chips", "aria-label": "Filters" }, place.filters.map(([name, value]) =>
    h("li", {}, h("span", {}, `${name} `, h("b", {}, value)), h("button", {
      type: "button", "aria-label": `Remove the filter ${name} ${value}`, onclick: () => go(place.without(name, value)),
    }, "×"))));
}

/** @param {Place} place */
function adder(place) {
  const values = h("datalist", { id: "values" });
  const value = h("input", { name: "value", list: "values", placeholder: "value", "aria-label": "Value", required: true });
  const names = ["q", ...config.dimensions];
  const name = h("select", { name: "name", "aria-label": "Field", onchange: () => void suggest() },
    names.map((one) => h("option", { value: one }, one === "q" ? "text" : one)));

  // The values that there are, the most frequent first.
  async function suggest() {
    fill(values);
    if (name.value === "q") return;
    try {
      const query = place.query(Date.now()).filter(([known]) => known !== name.value);
      const { data } = await get("/api/v1/rollups", [["group_by", name.value], ["measures", "runs"], ["order_by", "-runs"], ["limit", "50"], ...query]);
      fill(values, data.rows.filter((/** @type {any} */ row) => row[name.value] !== null)
        .map((/** @type {any} */ row) => h("option", { value: row[name.value] }, `${row.runs} runs`)));
    } catch { /* suggestions are a help; a view says what is wrong */ }
  }

  return h("form", {
    class: "adder",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      go(name.value === "q" ? place.with({ q: value.value }) : place.adding(name.value, value.value));
    },
  }, name, value, values, h("button", { type: "submit" }, "Filter"));
}
