// @ts-check
/** A framed part of a view: its title, what it can do, and its states: loading, empty, wrong, stale. */

import { asCurl } from "./api.js";
import { copy, fill, h } from "./dom.js";

export class Panel {
  /**
   * @param {string} title
   * @param {{wide?: boolean, onpng?: () => void}} [how]
   */
  constructor(title, { wide = false, onpng } = {}) {
    this.url = "";
    this.body = h("div", { class: "body" });
    this.note = h("p", { class: "note", role: "status" }, "Loading …");
    this.csv = h("a", { class: "tool", download: "", hidden: true }, "CSV");
    this.tools = h("div", { class: "tools" },
      onpng === undefined ? null : h("button", { type: "button", class: "tool", onclick: onpng }, "PNG"),
      this.csv, h("button", { type: "button", class: "tool", onclick: () => void copy(asCurl(this.url)) }, "curl"));
    this.root = h("section", { class: wide ? "panel wide" : "panel", "aria-label": title, "aria-busy": "true" },
      h("header", {}, h("h2", {}, title), this.tools),
      this.note, this.body);
  }

  /** What is shown came of this call. @param {string} url */
  from(url) {
    this.url = url;
    this.csv.hidden = false;
    this.csv.href = `${url}${url.includes("?") ? "&" : "?"}format=csv`;
  }

  ready() {
    this.note.textContent = "";
    this.root.removeAttribute("aria-busy");
    this.root.classList.remove("stale");
  }

  /** @param {string} text what it means that there is nothing */
  empty(text) {
    this.ready();
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
