// @ts-check
/** The bar above every view of runs: range, zone, text, filters. What it changes is the URL. */

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { exact } from "./format.js";
import { config, go, RANGES } from "./place.js";

/** @typedef {import("./place.js").Place} Place */

const ZONES = /** @type {string[]} */ (/** @type {any} */ (Intl).supportedValuesOf?.("timeZone") ?? ["UTC"]);
const SUGGESTED = "50";
const PAUSE_MS = 120;

/** @param {HTMLElement} bar @param {Place} place */
export function controls(bar, place) {
  const focused = bar.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
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
  fill(bar, ranges(place), zone, zones, finder(place), adder(place), chips(place));
  if (focused) /** @type {HTMLElement | null} */ (bar.querySelector(`[aria-label="${CSS.escape(focused)}"]`))?.focus();
}

/** @param {Place} place */
function ranges(place) {
  const now = Date.now();
  const { from, to } = place.range(now);
  const span = to.getTime() - from.getTime();
  const buttons = RANGES.map(([name]) => h("button", {
    type: "button", "aria-pressed": String(place.rangeName === name),
    onclick: () => go(place.with({ range: name, from: null, to: null })),
  }, name));
  /** @param {string} sign @param {string} name @param {number} first @param {number} last ms of the present range */
  const move = (sign, name, first, last) => h("button", {
    type: "button", "aria-label": name, title: name, disabled: sign === "›" && to.getTime() > now,
    onclick: () => go(place.between(new Date(from.getTime() + first), new Date(Math.min(to.getTime() + last, Math.max(now, to.getTime()))))),
  }, sign);
  const custom = h("details", { class: "popup" },
    h("summary", { "aria-label": "Custom range", class: place.rangeName === "custom" ? "chosen" : "" },
      place.rangeName === "custom" ? `${local(from)} – ${local(to)}`.replaceAll("T", " ") : "custom"),
    h("form", {
      onsubmit: (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
        const first = new Date(String(form.get("from"))), last = new Date(String(form.get("to")));
        if (first < last) go(place.between(first, last));
      },
    },
    h("label", {}, "From", h("input", { type: "datetime-local", name: "from", required: true, value: local(from) })),
    h("label", {}, "to", h("input", { type: "datetime-local", name: "to", required: true, value: local(to) })),
    h("p", { class: "hint" }, "In this machine's own zone."),
    h("button", { type: "submit" }, "Show")));
  return h("div", { class: "ranges", role: "group", "aria-label": "Range" }, buttons, custom,
    move("‹", "Earlier", -span, -span), move("›", "Later", span, span), move("⊖", "Zoom out", -span / 2, span / 2));
}

/** For a field of type datetime-local. @param {Date} time */
function local(time) {
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** Text in names and summaries. @param {Place} place */
function finder(place) {
  const field = h("input", { type: "search", name: "q", value: place.search.get("q") ?? "", placeholder: "text in names, summaries", "aria-label": "Text" });
  const find = () => go(place.with({ q: field.value.trim() || null }));
  // Chromium tells `search` when the field is emptied by its cross, too.
  field.addEventListener("search", find);
  return h("form", { class: "finder", role: "search", onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); find(); } }, field);
}

/** @param {Place} place */
function chips(place) {
  return h("ul", { class: "chips", "aria-label": "Filters" }, place.filters.map(([name, value]) =>
    h("li", { title: `${name} ${value}` }, h("span", {}, `${name} `, h("b", {}, h("bdi", {}, value))), h("button", {
      type: "button", "aria-label": `Remove the filter ${name} ${value}`, onclick: () => go(place.without(name, value)),
    }, "×"))));
}

/** @param {Place} place */
function adder(place) {
  const values = h("datalist", { id: "values" });
  const value = h("input", { name: "value", list: "values", placeholder: "value", "aria-label": "Value", required: true, autocomplete: "off" });
  const name = h("select", { name: "name", "aria-label": "Field" }, config.dimensions.map((one) => h("option", { value: one }, one)));
  let abort = new AbortController();
  let pause = 0;

  // The values that there are and that begin so, the most frequent first.
  async function suggest() {
    abort.abort();
    abort = new AbortController();
    try {
      const query = place.query(Date.now()).filter(([known]) => known !== name.value);
      const asked = /** @type {[string, string][]} */ ([["dimension", name.value], ["prefix", value.value], ["limit", SUGGESTED], ...query]);
      const { data } = await get("/api/v1/values", asked, abort.signal);
      fill(values, data.values.map((/** @type {any} */ one) => h("option", { value: one.value }, `${exact(one.runs)} runs`)));
    } catch { /* suggestions are a help; a view says what is wrong */ }
  }

  name.addEventListener("change", () => { fill(values); void suggest(); });
  value.addEventListener("focus", () => void suggest());
  value.addEventListener("input", () => {
    window.clearTimeout(pause);
    pause = window.setTimeout(() => void suggest(), PAUSE_MS);
  });
  return h("form", {
    class: "adder",
    onsubmit: (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      window.clearTimeout(pause);
      abort.abort();
      go(place.adding(name.value, value.value));
    },
  }, name, value, values, h("button", { type: "submit" }, "Filter"));
}
