// @ts-check
/** Light or dark: what the system prefers, until one is chosen. */

/** The name of the event, at the window, that tells of another theme. */
export const THEME = "theme";
const CHOICE = "runlake-theme";
const SYSTEM = matchMedia("(prefers-color-scheme: dark)");

/** What was chosen earlier holds; from now on changes are told. */
export function startTheme() {
  try {
    const chosen = localStorage.getItem(CHOICE);
    if (chosen !== null) document.documentElement.dataset.theme = chosen;
  } catch { /* private mode */ }
  SYSTEM.addEventListener("change", tell);
}

/** The other one. */
export function turnTheme() {
  const root = document.documentElement;
  const dark = (root.dataset.theme ?? (SYSTEM.matches ? "dark" : "light")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem(CHOICE, root.dataset.theme); } catch { /* private mode */ }
  tell();
}

function tell() {
  window.dispatchEvent(new Event(THEME));
}
