// @ts-check
/** The public API, as this page calls it. */

/** A failure as the API tells it (RFC 9457), or a server that cannot be reached (status 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** @typedef {[string, string][]} Query */
/** @typedef {{data: any, position: string, lagMs: number, nextCursor: string | null}} Answer */
/** @typedef {{items: any[], next: string | null}} Page */

/** @type {Map<string, {tag: string, answer: Answer}>} answers that may still be good; the oldest is forgotten first */
const kept = new Map();
const MAX_KEPT = 64;

/** @param {string} path @param {Query} [query] */
export function urlOf(path, query = []) {
  const text = new URLSearchParams(query).toString();
  return text === "" ? path : `${path}?${text}`;
}

/**
 * GET, in JSON. An answer that has not changed is not sent again.
 * @param {string} path
 * @param {Query} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<Answer>}
 */
export async function get(path, query = [], signal) {
  const url = urlOf(path, query);
  const known = kept.get(url);
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (known !== undefined) headers["If-None-Match"] = known.tag;
  const response = await send(url, { headers, signal });
  const told = {
    position: response.headers.get("RunLake-Position") ?? "",
    lagMs: Number(response.headers.get("RunLake-Lag-Ms") ?? 0),
  };
  if (response.status === 304 && known !== undefined) return { ...known.answer, ...told };
  const answer = { data: await response.json(), nextCursor: response.headers.get("RunLake-Next-Cursor"), ...told };
  const tag = response.headers.get("ETag");
  kept.delete(url);
  if (tag !== null) {
    kept.set(url, { tag, answer });
    if (kept.size > MAX_KEPT) kept.delete(/** @type {string} */ (kept.keys().next().value));
  }
  return answer;
}

/**
 * The first pages of a list, one after the other; `next` is the cursor of the page that follows them.
 * @param {number} count @param {(cursor: Query) => Promise<Page>} read @returns {Promise<Page>}
 */
export async function pages(count, read) {
  const all = await read([]);
  for (let page = 1; page < count && all.next !== null; page += 1) {
    const more = await read([["cursor", all.next]]);
    all.items = [...all.items, ...more.items];
    all.next = more.next;
  }
  return all;
}

/** GET, as the text that it is. @param {string} url @param {AbortSignal} [signal] */
export async function text(url, signal) {
  return (await send(url, { signal })).text();
}

/**
 * POST in JSON; another type of answer comes as a blob.
 * @param {string} path
 * @param {unknown} body
 * @param {AbortSignal} [signal]
 */
export async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const response = await send(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (response.status === 204) return null;
  return response.headers.get("Content-Type")?.startsWith("application/json") ? response.json() : response.blob();
}

/** @param {string} url @param {RequestInit} init */
async function send(url, init) {
  let response;
  try {
    response = await fetch(url, { ...init, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "RunLake cannot be reached.");
  }
  if (response.ok || response.status === 304) return response;
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch { /* no problem document: the status line has to do */ }
  throw new ApiError(response.status, detail);
}

/** The call as a command for a shell. @param {string} url a path on this server */
export function asCurl(url) {
  return `curl -s '${new URL(url, location.href).href.replaceAll("'", "%27")}'`;
}
