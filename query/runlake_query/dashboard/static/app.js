// @ts-check
/** The shell: navigation, theme, sign-in, and which view is shown. */

import { ApiError, post } from "./api.js";
import { fill, h } from "./dom.js";
import { config, go, Place } from "./place.js";
import { overview } from "./overview.js";
import { runs } from "./runs.js";
import { run } from "./run.js";
import { commits } from "./commits.js";
import { producers, quarantine } from "./books.js";
import { system } from "./system.js";
import { sql } from "./sql.js";
import { compare } from "./compare.js";
import { startTheme, turnTheme } from "./theme.js";

/**
 * A view puts itself into `main`. It is told of every new place of its own path, and is closed when another is shown.
 * @typedef {{show: (place: Place) => void, close: () => void}} View
 * @typedef {(main: HTMLElement, shell: Shell) => View} MakeView
 * A view tells what failed, how its stream is, and where a round of questions begins and ends.
 * @typedef {{fail: (error: unknown) => void, state: (text: string) => void, round: (work: () => Promise<void>) => () => Promise<void>}} Shell
 */

/** @type {[string, string][]} */
const PAGES = [
  ["/", "Overview"], ["/runs", "Runs"], ["/commits", "Commits"], ["/producers", "Producers"],
  ["/quarantine", "Quarantine"], ["/system", "System"], ...(config.sql ? [/** @type {[string, string]} */ (["/sql", "SQL"])] : []),
];

/** @param {string} path @returns {MakeView} */
function viewOf(path) {
  if (path === "/") return overview;
  if (path === "/runs") return runs;
  if (path.startsWith("/runs/")) return run;
  if (path === "/commits" || path.startsWith("/commits/")) return commits;
  if (path === "/producers") return producers;
  if (path === "/quarantine") return quarantine;
  if (path === "/compare") return compare;
  if (path === "/sql") return sql;
  return system;
}

const nav = h("nav", { "aria-label": "Pages" });
const main = h("main", { id: "main", tabindex: "-1" });
const lamp = h("span", { class: "lamp", role: "status" }, "");

/** @type {View | null} */
let view = null;
/** @type {MakeView | null} */
let made = null;
let shownPath = "";

let state = "";
/** What went wrong last, until a round goes well: it is more than the state of the stream. @type {string | null} */
let failure = null;
let failures = 0;

function shine() {
  const text = failure ?? { live: "live", waiting: "reconnecting …", polling: "every 5 s", hidden: "paused" }[state] ?? state;
  if (lamp.textContent !== text) lamp.textContent = text;
  lamp.className = failure === null ? `lamp ${state}` : "lamp bad";
  lamp.title = failure === null && state === "polling" ? "Other tabs have the streams; this one asks" : text;
}

/** @type {Shell} */
const shell = {
  fail(error) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (error instanceof ApiError && error.status === 401) { signIn(); return; }
    failures += 1;
    failure = error instanceof Error ? error.message : String(error);
    shine();
  },
  state(text) {
    state = text;
    shine();
  },
  round(work) {
    return async () => {
      const before = failures;
      await work();
      if (failures !== before) return;
      failure = null;
      shine();
    };
  },
};

function show() {
  const place = Place.now();
  fill(nav, PAGES.map(([path, name]) => h("a", {
    href: place.at(path), "aria-current": place.path === path || (path === "/runs" && place.path.startsWith("/runs/")) ? "page" : null,
  }, name)));
  const wanted = viewOf(place.path);
  const other = wanted !== made || (wanted === run && shownPath !== place.path);
  if (other) {
    view?.close();
    fill(main);
    failure = null;
    shell.state("");
    made = wanted;
    shownPath = place.path;
    view = wanted(main, shell);
    window.scrollTo(0, 0);
  }
  view?.show(place);
}

function signIn() {
  view?.close();
  view = null;
  made = null;
  const field = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password", "aria-label": "Token" });
  const wrong = h("p", { class: "error", role: "alert" });
  fill(main, h("form", {
    class: "sign-in",
    onsubmit: async (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      try {
        await post("/session", { token: field.value });
        show();
      } catch (error) {
        wrong.textContent = error instanceof Error ? error.message : String(error);
      }
    },
  }, h("h1", {}, "This RunLake asks for its token"), field, h("button", { type: "submit" }, "Sign in"), wrong));
  field.focus();
}

function begin() {
  startTheme();
  const app = /** @type {HTMLElement} */ (document.getElementById("app"));
  fill(app,
    h("a", { href: "#main", class: "skip" }, "To the content"),
    h("header", {},
      h("a", { href: "/", class: "logo" }, "RunLake"), nav, lamp,
      h("form", {
        role: "search", class: "goto",
        onsubmit: (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          const field = /** @type {HTMLInputElement} */ (/** @type {HTMLFormElement} */ (event.target).elements[0]);
          if (field.value.trim() !== "") go(`/runs/${encodeURIComponent(field.value.trim())}`);
        },
      }, h("input", { placeholder: "Run id …  ( / )", "aria-label": "Go to a run", id: "goto" })),
      h("button", { type: "button", onclick: turnTheme, "aria-label": "Light or dark", class: "icon" }, "◐"),
      config.token ? h("button", {
        type: "button",
        onclick: async () => {
          try { await fetch("/session", { method: "DELETE" }); } finally { signIn(); }
        },
      }, "Sign out") : null),
    main, h("div", { id: "toast", role: "status" }));

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (link === null || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.origin !== location.origin || link.target !== "" || link.hasAttribute("download") || link.getAttribute("href")?.startsWith("#")) return;
    if (link.pathname !== "/compare" && !PAGES.some(([path]) => link.pathname === path) && !/^\/(runs|commits)\//.test(link.pathname)) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); document.getElementById("goto")?.focus(); }
    if (event.key === "Escape" && typing) /** @type {HTMLElement} */ (event.target).blur();
  });
  window.addEventListener("popstate", show);
  window.addEventListener("unhandledrejection", (event) => { event.preventDefault(); shell.fail(event.reason); });
  show();
}

begin();
