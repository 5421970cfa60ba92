// @ts-check
/** Round times of a zone, for an axis of time. */

const MINUTE = 60_000, HOUR = 60 * MINUTE, DAY = 24 * HOUR, WEEK = 7 * DAY;
/** Lengths between two ticks, in ms; above the last one months are counted. */
const STEPS = [
  MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, WEEK, 2 * WEEK,
];
const MONTHS = [1, 2, 3, 6, 12, 24, 60, 120, 240];
const MONTH = 30.4 * DAY;
/** Weeks begin on Mondays, and 1970 began on a Thursday. */
const MONDAY = 4 * DAY;

/** @type {Map<string, Intl.DateTimeFormat>} */
const clocks = new Map();
const DATE = new Intl.DateTimeFormat("en", { timeZone: "UTC", month: "short", day: "numeric" });
const NAME = new Intl.DateTimeFormat("en", { timeZone: "UTC", month: "short" });

/**
 * What a clock of the zone shows at a moment, as the moment at which one in UTC shows it; not a number outside the years
 * 1000 to 9999.
 * @param {number} moment @param {string} zone
 */
function wall(moment, zone) {
  let clock = clocks.get(zone);
  if (clock === undefined) {
    clock = new Intl.DateTimeFormat("sv-SE", {
      timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    });
    clocks.set(zone, clock);
  }
  return Date.parse(`${clock.format(moment).replace(" ", "T")}Z`);
}

/** The moment at which a clock of the zone shows this. @param {number} shown @param {string} zone */
function instant(shown, zone) {
  let moment = shown;
  // Twice: the first guess may lie on the other side of a change of the clock.
  for (let turn = 0; turn < 2; turn += 1) moment = shown - (wall(moment, zone) - moment);
  return moment;
}

/**
 * The round times between two moments (ms since the epoch), at most about `wanted` of them, and the lines of what each is
 * called: the second line is there where it differs from that of the tick before. None outside the years 1000 to 9999.
 * @param {number} from @param {number} to @param {string} zone an IANA name @param {number} wanted
 * @returns {{value: number, label: string[]}[]}
 */
export function timeTicks(from, to, zone, wanted) {
  const length = (to - from) / Math.max(1, wanted);
  const step = STEPS.find((one) => one >= length);
  const first = wall(from, zone), last = wall(to, zone);
  if (Number.isNaN(first) || Number.isNaN(last)) return [];
  const shown = step === undefined ? monthly(first, last, length) : every(first, last, step);
  let before = "";
  return shown.flatMap((at) => {
    const value = instant(at, zone);
    // In spring a clock leaves an hour out.
    if (value < from || value > to || wall(value, zone) !== at) return [];
    const [line, below] = called(at, step);
    const label = below === before ? [line] : [line, below];
    before = below;
    return [{ value, label }];
  });
}

/** @param {number} first @param {number} last @param {number} step */
function every(first, last, step) {
  const zero = step % WEEK === 0 ? MONDAY : 0;
  const begin = Math.ceil((first - zero) / step) * step + zero;
  return Array.from({ length: Math.max(0, Math.floor((last - begin) / step) + 1) }, (_, number) => begin + number * step);
}

/** @param {number} first @param {number} last @param {number} length */
function monthly(first, last, length) {
  const months = MONTHS.find((one) => one * MONTH >= length) ?? MONTHS[MONTHS.length - 1];
  const shown = [];
  const day = new Date(first);
  for (let month = Math.floor((day.getUTCFullYear() * 12 + day.getUTCMonth()) / months) * months; ; month += months) {
    const at = Date.UTC(Math.floor(month / 12), month % 12);
    if (at > last) return shown;
    if (at >= first) shown.push(at);
  }
}

/** @param {number} at @param {number | undefined} step @returns {[string, string]} */
function called(at, step) {
  const text = new Date(at).toISOString(), year = text.slice(0, 4);
  if (step === undefined) return [NAME.format(at), year];
  return step < DAY ? [text.slice(11, 16), DATE.format(at)] : [DATE.format(at), year];
}
