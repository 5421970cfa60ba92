// @ts-check
/** A framed part of a view: its title, what it can do, and its states: loading, empty, wrong, stale. */

import { asCurl, text } from "./api.js";
import { copy, fill, h, say } from "./dom.js";

/** @typedef {{csv?: string | null, sql?: boolean}} Forms */

export class Panel {
  /**
   * @param {string} title
   * @param {{wide?: boolean, onpng?: () => void}} [how]
   */
  constructor(title, { wide = false, onpng } = {}) {
    this.url = "";
    this.body = h("div", { class: "body" });
    this.note = h("p", { class: "note", role: "status" }, "Loading …");
    this.png = h("button", { type: "button", class: "tool", hidden: true, title: "Save the chart as a picture", onclick: onpng }, "PNG");
    this.drawn = onpng !== undefined;
    this.csv = h("a", { class: "tool", download: "", hidden: true, title: "Save the rows behind it" }, "CSV");
    this.sql = h("button", { type: "button", class: "tool", hidden: true, title: "Copy the question as SQL", onclick: () => void this.copySql() }, "SQL");
    this.curl = h("button", { type: "button", class: "tool", hidden: true, title: "Copy the question as a command", onclick: () => void copy(asCurl(this.url)) }, "curl");
    this.tools = h("div", { class: "tools" }, this.png, this.csv, this.sql, this.curl);
    this.root = h("section", { class: wide ? "panel wide" : "panel", "aria-label": title, "aria-busy": "true" },
      h("header", {}, h("h2", {}, title), this.tools),
      this.note, this.body);
  }

  /**
   * What is shown came of this call. `csv`: where its rows are as CSV; null where they are not.
   * @param {string} url
   * @param {Forms} [forms]
   */
  from(url, { csv = formatted(url, "csv"), sql = false } = {}) {
    this.url = url;
    this.curl.hidden = false;
    this.sql.hidden = !sql;
    this.csv.hidden = csv === null;
    if (csv !== null) this.csv.href = csv;
  }

  async copySql() {
    try {
      await copy(await text(formatted(this.url, "sql")));
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    }
  }

  ready() {
    this.note.textContent = "";
    this.png.hidden = !this.drawn;
    this.root.removeAttribute("aria-busy");
    this.root.classList.remove("stale");
  }

  /** @param {string} text what it means that there is nothing */
  empty(text) {
    this.ready();
    this.png.hidden = true;
    this.note.textContent = text;
  }

  /** What was shown stays, and is marked as old. @param {unknown} error */
  wrong(error) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    this.root.removeAttribute("aria-busy");
    this.root.classList.add("stale");
    this.note.textContent = error instanceof Error ? error.message : String(error);
  }

  clear() {
    fill(this.body);
  }
}

/** The same call in another format. @param {string} url @param {string} format */
function formatted(url, format) {
  return `${url}${url.includes("?") ? "&" : "?"}format=${format}`;
}
