// @ts-check
/** Numbers and times for people; the exact value goes into the title. */

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en");

/** @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) < 10_000 ? WHOLE.format(value) : COMPACT.format(value);
}

/** @param {number | null | undefined} value */
export function exact(value) {
  return value === null || value === undefined ? "not known" : WHOLE.format(value);
}

/** @param {number | null | undefined} share 0 to 1 */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  // 99.96 % must not be shown as 100 %, nor 0.02 % as 0.
  if (share < 1 && value > 99.9) return `${(Math.floor(value * 100) / 100).toFixed(2)} %`;
  if (share > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value === 100 || value === 0 ? 0 : 1)} %`;
}

/** @param {number | null | undefined} usd */
export function money(usd) {
  if (usd === null || usd === undefined) return "–";
  if (usd === 0) return "$0";
  if (Math.abs(usd) < 0.01) return `$${usd.toPrecision(2)}`;
  return `$${usd < 1000 ? usd.toFixed(2) : COMPACT.format(usd)}`;
}

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, in the largest unit. @param {string | null | undefined} time @param {number} now ms since the epoch */
export function ago(time, now) {
  if (!time) return "–";
  const seconds = Math.round((now - Date.parse(time)) / 1000);
  const past = Math.abs(seconds);
  const text = past < 60 ? `${past} s` : past < 3600 ? `${Math.floor(past / 60)} m`
    : past < 172800 ? `${Math.floor(past / 3600)} h` : `${Math.floor(past / 86400)} d`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** A time in a zone, to the second. @param {string | null | undefined} time @param {string} zone an IANA name */
export function moment(time, zone) {
  if (!time) return "–";
  const parts = new Intl.DateTimeFormat("sv-SE", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).format(new Date(time));
  return parts;
}

/** @param {number} bytes */
export function size(bytes) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(bytes) < 1024) return `${unit === "B" ? bytes : bytes.toFixed(1)} ${unit}`;
    bytes /= 1024;
  }
  return `${bytes.toFixed(1)} TiB`;
}

/** Lengths of time that people count in, in ms. */
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
  1_800_000, 3_600_000, 7_200_000, 14_400_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 432_000_000, 864_000_000,
];
/** @type {[number, string][]} */
const UNITS = [[86_400_000, "d"], [3_600_000, "h"], [60_000, "m"], [1000, "s"], [1, "ms"]];

/**
 * The round times from nothing up to a length, about `wanted` of them, and what each is called in one unit.
 * @param {number} ms
 * @param {number} [wanted]
 */
export function ticks(ms, wanted = 4) {
  const last = /** @type {number} */ (STEPS.at(-1));
  const step = STEPS.find((one) => ms / one <= wanted) ?? Math.ceil(ms / wanted / last) * last;
  const values = Array.from({ length: Math.floor(ms / step) + 1 }, (_, number) => number * step);
  const [unit, name] = UNITS.find(([length]) => 2 * length <= /** @type {number} */ (values.at(-1))) ?? [1, "ms"];
  return { tickvals: values, ticktext: values.map((value) => (value === 0 ? "0" : `${value / unit} ${name}`)) };
}
