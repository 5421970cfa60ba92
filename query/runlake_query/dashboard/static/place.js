// @ts-check
/** Where the page is: path, range, zone and filters are the URL, and nothing else is. */

/** @typedef {{dimensions: string[], statuses: string[], version: string, sql: boolean, token: boolean}} Config */

/** @type {Config} */
export const config = JSON.parse(document.getElementById("config")?.textContent ?? "{}");

/** Name, length in ms, bucket. @type {[string, number, string][]} */
export const RANGES = [
  ["1h", 3_600_000, "minute"], ["6h", 21_600_000, "minute"], ["24h", 86_400_000, "hour"], ["7d", 604_800_000, "hour"],
  ["30d", 2_592_000_000, "day"], ["90d", 7_776_000_000, "day"],
];
const DEFAULT_RANGE = "24h";
/** @type {Record<string, number>} */
export const BUCKET_MS = { minute: 60_000, hour: 3_600_000, day: 86_400_000, week: 604_800_000, month: 2_629_800_000 };
const SINGLE = ["q", "root", "stale", "min_duration_ms", "max_duration_ms"];

export class Place {
  /** @param {URL} url */
  constructor(url) {
    this.path = url.pathname;
    this.search = url.searchParams;
  }

  static now() {
    return new Place(new URL(location.href));
  }

  /** The IANA name of the zone that times are shown in, and days are cut in. */
  get zone() {
    return this.search.get("tz") ?? Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
  }

  /** The name of the range; `custom` when both ends are given. */
  get rangeName() {
    if (this.search.get("from") !== null) return "custom";
    const name = this.search.get("range") ?? DEFAULT_RANGE;
    return RANGES.some(([known]) => known === name) ? name : DEFAULT_RANGE;
  }

  /**
   * The range, its end a whole bucket, so that empty buckets are told and the question stays the same for a while.
   * @param {number} now ms since the epoch
   * @returns {{from: Date, to: Date, bucket: string}}
   */
  range(now) {
    const from = this.search.get("from"), to = this.search.get("to");
    if (from !== null && !Number.isNaN(Date.parse(from))) {
      const end = to !== null && !Number.isNaN(Date.parse(to)) ? Date.parse(to) : now;
      return { from: new Date(from), to: new Date(end), bucket: bucketFor(end - Date.parse(from)) };
    }
    const [, span, bucket] = RANGES.find(([name]) => name === this.rangeName) ?? RANGES[2];
    const step = BUCKET_MS[bucket];
    const end = (Math.floor(now / step) + 1) * step;
    return { from: new Date(end - span), to: new Date(end), bucket };
  }

  /** The filters, as the API takes them, without the range. @returns {[string, string][]} */
  get filters() {
    return [...this.search].filter(([name]) => config.dimensions.includes(name) || SINGLE.includes(name));
  }

  /** The filters with the range. @param {number} now @returns {[string, string][]} */
  query(now) {
    const { from, to } = this.range(now);
    return [...this.filters, ["start_time_from", iso(from)], ["start_time_to", iso(to)]];
  }

  /**
   * The URL with some parameters replaced: a list gives several values, null or [] removes.
   * @param {Record<string, string | string[] | null>} changes
   * @param {string} [path]
   */
  with(changes, path = this.path) {
    const search = new URLSearchParams(this.search);
    for (const [name, value] of Object.entries(changes)) {
      search.delete(name);
      for (const one of value === null ? [] : Array.isArray(value) ? value : [value]) search.append(name, one);
    }
    search.delete("cursor");
    const text = search.toString();
    return text === "" ? path : `${path}?${text}`;
  }

  /** Another page, with the same range, zone and filters. @param {string} path */
  at(path) {
    const search = new URLSearchParams();
    for (const [name, value] of this.search) {
      if (["range", "from", "to", "tz"].includes(name) || this.filters.some(([known]) => known === name)) search.append(name, value);
    }
    const text = search.toString();
    return text === "" ? path : `${path}?${text}`;
  }

  /** The URL with one more value of a dimension. @param {string} name @param {string} value */
  adding(name, value) {
    const values = this.search.getAll(name);
    return this.with({ [name]: values.includes(value) ? values : [...values, value] });
  }

  /** The URL with another range. @param {Date} from @param {Date} to */
  between(from, to) {
    return this.with({ from: iso(from), to: iso(to), range: null });
  }

  /** @param {string} name @param {string} value */
  without(name, value) {
    return this.with({ [name]: this.search.getAll(name).filter((one) => one !== value) });
  }
}

/** @param {Date} time */
export function iso(time) {
  return time.toISOString().replace(".000Z", "Z");
}

/** The bucket that makes a few dozen to a few hundred points of a range. @param {number} span ms */
function bucketFor(span) {
  if (span <= 6 * 3_600_000) return "minute";
  if (span <= 8 * 86_400_000) return "hour";
  if (span <= 400 * 86_400_000) return "day";
  return span <= 5 * 366 * 86_400_000 ? "week" : "month";
}

/** A bucket of which a range has few enough to be shown by model. @param {string} bucket @param {number} span ms */
export function coarser(bucket, span) {
  const names = Object.keys(BUCKET_MS);
  return names.slice(names.indexOf(bucket)).find((name) => span / BUCKET_MS[name] <= 120) ?? "month";
}

/** Go to a URL of this page. @param {string} url @param {{replace?: boolean}} [how] */
export function go(url, { replace = false } = {}) {
  if (url === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  window.dispatchEvent(new PopStateEvent("popstate"));
}
