// @ts-check
/** The stream of changes: few connections, come back after an interruption where they were. */

import { urlOf } from "./api.js";

/** @typedef {{onrun?: (run: any) => void, onevent?: (event: any) => void, onlost?: () => void, onstate?: (state: string) => void}} Told */

/** So many streams all tabs have together: over HTTP/1.1 a browser has six connections for each host, for all it does. */
const STREAMS = 3;
/** How often a tab without a stream asks. */
const POLL_MS = 5000;
const RETRY_MS = 5000;

/**
 * Listen while the page is seen. `state` is told `live`, `waiting` (not connected), `polling` (other tabs have the
 * streams) or `hidden`; `onlost` that something may have been missed.
 * @param {[string, string][]} filters
 * @param {Told} told
 * @returns {() => void} stops listening
 */
export function listen(filters, told) {
  return open(urlOf("/api/v1/stream", filters), told);
}

/** @param {string} url @param {Told} told @returns {() => void} */
export function open(url, told) {
  /** @type {AbortController | null} */
  let seen = null;

  // A page in the background keeps no connection.
  function look() {
    if (document.hidden) {
      seen?.abort();
      seen = null;
      told.onstate?.("hidden");
    } else if (seen === null) {
      told.onlost?.();
      seen = begin();
    }
  }

  function begin() {
    const ended = new AbortController();
    void inTurn(ended.signal, () => poll(told, ended.signal), () => stream(url, told, ended.signal));
    return ended;
  }

  document.addEventListener("visibilitychange", look);
  if (!document.hidden) seen = begin();
  return () => {
    document.removeEventListener("visibilitychange", look);
    seen?.abort();
  };
}

/**
 * Do `work` while this tab holds one of the streams that all tabs share; `meanwhile`, until it returns, when they are taken.
 * @param {AbortSignal} signal
 * @param {() => () => void} meanwhile returns what ends it
 * @param {() => Promise<void>} work
 */
async function inTurn(signal, meanwhile, work) {
  // Without locks (a page that came over plain HTTP from another machine) there is no telling what other tabs have.
  if (navigator.locks === undefined) return work();
  const names = Array.from({ length: STREAMS }, (_, number) => `runlake stream ${number}`);
  for (const name of names) {
    const had = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
      if (lock === null) return false;
      if (!signal.aborted) await work();
      return true;
    });
    if (had || signal.aborted) return undefined;
  }
  const end = meanwhile(), line = new AbortController();
  signal.addEventListener("abort", () => line.abort(), { once: true });
  let taken = false;
  // In line for all of them: whichever is free first.
  await Promise.allSettled(names.map((name) => navigator.locks.request(name, { signal: line.signal }, async () => {
    if (taken || signal.aborted) return;
    taken = true;
    line.abort();
    end();
    await work();
  })));
  return undefined;
}

/** @param {Told} told @param {AbortSignal} signal @returns {() => void} */
function poll(told, signal) {
  told.onstate?.("polling");
  const timer = window.setInterval(() => told.onlost?.(), POLL_MS);
  const end = () => window.clearInterval(timer);
  signal.addEventListener("abort", end, { once: true });
  return end;
}

/** Until the signal. @param {string} url @param {Told} told @param {AbortSignal} signal @returns {Promise<void>} */
function stream(url, told, signal) {
  return new Promise((resolve) => {
    /** @type {EventSource | null} */
    let source = null;
    let retry = 0;
    let broken = false;

    function connect() {
      source = new EventSource(url);
      source.onopen = () => {
        told.onstate?.("live");
        if (broken) told.onlost?.();
        broken = false;
      };
      source.onerror = () => {
        broken = true;
        told.onstate?.("waiting");
        // The browser comes back by itself, unless it was refused.
        if (source?.readyState === EventSource.CLOSED) retry = window.setTimeout(connect, RETRY_MS);
      };
      source.addEventListener("run", (message) => told.onrun?.(JSON.parse(message.data)));
      source.addEventListener("event", (message) => told.onevent?.(JSON.parse(message.data)));
      for (const name of ["coalesced", "lost"]) source.addEventListener(name, () => told.onlost?.());
    }

    if (signal.aborted) { resolve(); return; }
    signal.addEventListener("abort", () => {
      window.clearTimeout(retry);
      source?.close();
      resolve();
    }, { once: true });
    connect();
  });
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
