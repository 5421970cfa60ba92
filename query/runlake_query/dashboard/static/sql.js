// @ts-check
/** SQL: one SELECT over the documented views, its rows as a table, and as a chart where the first column is a time. */

import { post } from "./api.js";
import { Chart, PALETTE } from "./charts.js";
import { fill, h } from "./dom.js";
import { exact } from "./format.js";
import { Panel } from "./panel.js";
import { go, Place } from "./place.js";

/** @typedef {import("./app.js").Shell} Shell */

const FIRST = `SELECT date_trunc('hour', start_time) AS hour, count(*) AS runs, sum(cost_usd) AS cost_usd
FROM runs
GROUP BY hour
ORDER BY hour`;
const MAX_SHOWN = 1000;
const NUMBER = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*)$/;

/** @param {HTMLElement} main @param {Shell} shell */
export function sql(main, shell) {
  let place = Place.now();
  let abort = new AbortController();
  const text = h("textarea", { name: "sql", rows: "8", spellcheck: "false", class: "id", "aria-label": "Statement" });
  const run = h("button", { type: "submit" }, "Run (Ctrl-Enter)");
  const area = h("div", { class: "chart", hidden: true });
  const chart = new Chart(area);
  const panel = new Panel("Result", { wide: true, onpng: () => void chart.png("runlake sql") });
  panel.tools.append(h("button", { type: "button", class: "tool", onclick: () => void save() }, "CSV"));
  panel.note.textContent = "";
  panel.root.removeAttribute("aria-busy");
  const table = h("div", { class: "scroll tall", tabindex: "0", role: "group", "aria-label": "Rows" });
  panel.body.append(area, table);
  const form = h("form", {
    class: "sql",
    onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); go(place.with({ sql: text.value })); void ask(); },
  }, text, h("div", {}, run, h("span", { class: "hint" }, " One SELECT over the views runs and events. It is the URL: a link to this page is a link to the question.")));
  text.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(); });
  fill(main, h("h1", { class: "unseen" }, "SQL"), form, panel.root);

  async function ask() {
    abort.abort();
    abort = new AbortController();
    run.disabled = true;
    panel.root.setAttribute("aria-busy", "true");
    panel.note.textContent = "Running …";
    const begun = performance.now();
    try {
      const result = await post("/api/v1/sql", { sql: text.value }, abort.signal);
      panel.ready();
      const ms = Math.round(performance.now() - begun);
      panel.note.textContent = `${exact(result.rows.length)} rows${result.truncated ? ", and there are more" : ""} in ${exact(ms)} ms`;
      draw(result);
      panel.png.hidden = area.hidden;
    } catch (error) {
      panel.wrong(error);
      shell.fail(error);
    } finally {
      run.disabled = false;
    }
  }

  /** All rows, from the server. */
  async function save() {
    try {
      const rows = await post("/api/v1/sql?format=csv", { sql: text.value });
      const link = h("a", { href: URL.createObjectURL(rows), download: "runlake.csv" });
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      panel.wrong(error);
    }
  }

  /** @param {{columns: {name: string, type: string}[], rows: any[]}} result */
  function draw({ columns, rows }) {
    fill(table, h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", title: column.type, class: NUMBER.test(column.type) ? "number" : "" }, column.name)))),
      h("tbody", {}, rows.slice(0, MAX_SHOWN).map((row) => h("tr", {}, columns.map((column) =>
        h("td", { class: NUMBER.test(column.type) ? "number" : "" }, cell(row[column.name]))))))));
    const time = columns[0]?.type.startsWith("TIMESTAMP") || columns[0]?.type === "DATE" ? columns[0] : undefined;
    const numbers = columns.slice(1).filter((column) => NUMBER.test(column.type));
    const timed = time === undefined ? [] : rows.filter((row) => row[time.name] !== null)
      .sort((one, other) => Date.parse(one[time.name]) - Date.parse(other[time.name]));
    if (time === undefined || numbers.length === 0 || timed.length < 2) { area.hidden = true; return; }
    area.hidden = false;
    void chart.draw({
      kind: "line", label: `${numbers.map((column) => column.name).join(", ")} over ${time.name}`,
      x: timed.map((row) => Date.parse(row[time.name])), zone: time.type === "DATE" ? "UTC" : place.zone,
      series: numbers.map((column, index) => ({ name: column.name, y: timed.map((row) => (row[column.name] === null ? null : Number(row[column.name]))), colour: PALETTE[index % PALETTE.length] })),
    });
  }

  return {
    /** @param {Place} next */
    show(next) {
      place = next;
      document.title = "SQL – RunLake";
      shell.state("");
      const asked = place.search.get("sql");
      if (asked !== null && asked !== text.value) { text.value = asked; void ask(); } else if (text.value === "") text.value = FIRST;
    },
    close() { abort.abort(); chart.close(); },
  };
}

/** @param {unknown} value */
function cell(value) {
  if (value === null || value === undefined) return h("i", {}, "null");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
