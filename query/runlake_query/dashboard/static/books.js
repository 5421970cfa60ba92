// @ts-check
/** Producers: what each sent and what became of it. Quarantine: what was refused, and why. */

import { get, pages, urlOf } from "./api.js";
import { copy, fill, h } from "./dom.js";
import { ago, count, exact, moment, size } from "./format.js";
import { seldom } from "./live.js";
import { Panel } from "./panel.js";
import { Place } from "./place.js";

/** @typedef {import("./app.js").Shell} Shell */

const REFRESH_MS = 5000;

/** @param {HTMLElement} main @param {Shell} shell */
export function producers(main, shell) {
  let place = Place.now();
  const abort = new AbortController();
  const panel = new Panel("Producers", { wide: true });
  fill(main, h("h1", { class: "unseen" }, "Producers"),
    h("p", { class: "intro" }, "The books: what each producer sent is accepted, a duplicate or refused. Gaps are numbers of its own that have not come."),
    panel.root);
  const titles = ["Producer", "Received", "Accepted", "Duplicate", "Refused", "Gaps", "First seen", "Last seen"];

  async function load() {
    const asked = /** @type {[string, string][]} */ ([["limit", "1000"]]);
    panel.from(urlOf("/api/v1/producers", asked), { csv: null });
    try {
      const { data, lagMs } = await get("/api/v1/producers", asked, abort.signal);
      shell.state(`read model ${lagMs} ms behind`);
      if (data.producers.length === 0) { panel.clear(); panel.empty("Nothing was received yet."); return; }
      panel.ready();
      const several = new Set(data.producers.map((/** @type {any} */ one) => one.worker)).size > 1;
      fill(panel.body, h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, titles.map((title, index) => h("th", { scope: "col", class: index > 0 && index < 6 ? "number" : "" }, title)),
          several ? h("th", { scope: "col" }, "Worker") : null)),
        h("tbody", {}, data.producers.map((/** @type {any} */ one) => h("tr", {},
          h("th", { scope: "row", class: "id", title: one.producer }, h("bdi", {}, one.producer)),
          ["received", "accepted", "duplicate", "rejected", "gaps"].map((name) => h("td", {
            class: `number ${one[name] > 0 && (name === "gaps" || name === "rejected") ? "bad" : ""}`, title: exact(one[name]),
          }, count(one[name]))),
          h("td", { title: one.first_seen }, moment(one.first_seen, place.zone)),
          h("td", { title: one.last_seen }, ago(one.last_seen, Date.now())),
          several ? h("td", { class: "id", title: one.worker }, one.worker.slice(-12)) : null))))));
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }
  const refresh = seldom(shell.round(load), 1000);
  const clock = window.setInterval(() => document.hidden || refresh.ask(), REFRESH_MS);
  return {
    /** @param {Place} next */
    show(next) { place = next; document.title = "Producers – RunLake"; refresh.ask(); },
    close() { window.clearInterval(clock); refresh.stop(); abort.abort(); },
  };
}

/** @param {HTMLElement} main @param {Shell} shell */
export function quarantine(main, shell) {
  let place = Place.now();
  const abort = new AbortController();
  const panel = new Panel("Quarantine", { wide: true });
  let shown = 1;
  const older = h("button", { type: "button", onclick: () => { shown += 1; void load(); } }, "Older ones");
  fill(main, h("h1", { class: "unseen" }, "Quarantine"),
    h("p", { class: "intro" }, "Messages that were refused, with the reason and the bytes as they came; their neighbours were accepted."), panel.root);

  async function load() {
    const asked = /** @type {[string, string][]} */ ([["limit", "100"]]);
    panel.from(urlOf("/api/v1/quarantine", asked), { csv: null });
    try {
      let total = 0;
      const { items, next } = await pages(shown, async (cursor) => {
        const { data } = await get("/api/v1/quarantine", [...asked, ...cursor], abort.signal);
        total = data.total;
        return { items: data.quarantine, next: data.next_cursor };
      });
      shell.state("");
      if (total === 0) { panel.clear(); panel.empty("Nothing was refused."); return; }
      panel.ready();
      fill(panel.body, h("p", { class: "counted" }, `${exact(items.length)} of ${exact(total)}`),
        h("div", { class: "scroll" }, h("table", {},
          h("thead", {}, h("tr", {}, ["When", "Producer", "Field", "Reason", "Raw"].map((title) => h("th", { scope: "col" }, title)))),
          h("tbody", {}, items.map((/** @type {any} */ one) => h("tr", {},
            h("td", { title: one.received_at }, moment(one.received_at, place.zone)),
            h("td", { class: "id", title: one.producer }, h("bdi", {}, one.producer || "not known")),
            h("td", {}, one.field ?? ""), h("td", { class: "reason" }, one.reason),
            h("td", {}, raw(one.raw))))))), next === null ? null : older);
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    }
  }
  const refresh = seldom(shell.round(load), 1000);
  return {
    /** @param {Place} next */
    show(next) { place = next; document.title = "Quarantine – RunLake"; refresh.ask(); },
    close() { refresh.stop(); abort.abort(); },
  };
}

/** The bytes of a message, folded away. @param {string} base64 */
function raw(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return h("details", {}, h("summary", {}, size(bytes.length)),
    h("pre", {}, new TextDecoder().decode(bytes.slice(0, 4096)).replace(/[^\x20-\x7e\n]/g, "·")),
    h("button", { type: "button", class: "tool", onclick: () => void copy(base64) }, "Copy as Base64"));
}
