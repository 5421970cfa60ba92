// @ts-check
/** The stream of changes: one connection, come back after an interruption where it was. */

import { urlOf } from "./api.js";

/**
 * Listen while the page is seen. `state` is told `live`, `waiting` (not connected) or `hidden`.
 * @param {[string, string][]} filters
 * @param {{onrun?: (run: any) => void, onevent?: (event: any) => void, onlost?: () => void, onstate?: (state: string) => void}} told
 * @returns {() => void} stops listening
 */
export function listen(filters, told) {
  return open(urlOf("/api/v1/stream", filters), told);
}

/**
 * @param {string} url
 * @param {{onrun?: (run: any) => void, onevent?: (event: any) => void, onlost?: () => void, onstate?: (state: string) => void}} told
 * @returns {() => void}
 */
export function open(url, told) {
  /** @type {EventSource | null} */
  let source = null;
  let retry = 0;

  function connect() {
    source = new EventSource(url);
    source.onopen = () => told.onstate?.("live");
    source.onerror = () => {
      told.onstate?.("waiting");
      // The browser comes back by itself, unless it was refused.
      if (source !== null && source.readyState === EventSource.CLOSED) {
        retry = window.setTimeout(() => { told.onlost?.(); connect(); }, 5000);
      }
    };
    source.addEventListener("run", (message) => told.onrun?.(JSON.parse(message.data)));
    source.addEventListener("event", (message) => told.onevent?.(JSON.parse(message.data)));
    for (const name of ["coalesced", "lost"]) source.addEventListener(name, () => told.onlost?.());
  }

  function disconnect() {
    window.clearTimeout(retry);
    source?.close();
    source = null;
  }

  // A page in the background keeps no connection: a browser has only six for each host.
  function seen() {
    if (document.hidden) {
      disconnect();
      told.onstate?.("hidden");
    } else if (source === null) {
      told.onlost?.();
      connect();
    }
  }

  document.addEventListener("visibilitychange", seen);
  if (!document.hidden) connect();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    disconnect();
  };
}

/** Run `work` soon after it was asked for, but at most once in `ms`, and never twice at a time.
 * @param {() => Promise<void>} work @param {number} ms */
export function seldom(work, ms) {
  let timer = 0, running = false, again = false, last = -Infinity;
  async function run() {
    timer = 0;
    running = true;
    last = performance.now();
    try {
      await work();
    } finally {
      running = false;
      if (again) { again = false; ask(); }
    }
  }
  function ask() {
    if (running) again = true;
    else if (timer === 0) timer = window.setTimeout(run, Math.max(0, last + ms - performance.now()));
  }
  return { ask, stop: () => { window.clearTimeout(timer); again = false; } };
}
