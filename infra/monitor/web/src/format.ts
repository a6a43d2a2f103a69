/** Numbers and times as people read them, with their units. Pure. */

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n: number): string => number.format(n);

export function compact(n: number): string {
  if (n < 10_000) return number.format(n);
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const)
    if (n >= size) return `${(n / size).toFixed(n / size < 10 ? 1 : 0)} ${unit}`;
  return number.format(n);
}

export const perSecond = (n: number): string => `${n < 10 && n > 0 ? n.toFixed(1) : compact(Math.round(n))}/s`;

export function seconds(s: number): string {
  if (s < 0.001) return "0 s";
  if (s < 1) return `${(s * 1000).toFixed(0)} ms`;
  if (s < 90) return `${s < 10 ? s.toFixed(1) : s.toFixed(0)} s`;
  if (s < 5400) return `${(s / 60).toFixed(0)} min`;
  if (s < 172_800) return `${(s / 3600).toFixed(1)} h`;
  return `${(s / 86_400).toFixed(1)} d`;
}

export const millis = (ms: number | null | undefined): string =>
  ms === null || ms === undefined
    ? "–"
    : ms < 10
      ? `${ms.toFixed(1)} ms`
      : ms < 1000
        ? `${ms.toFixed(0)} ms`
        : `${(ms / 1000).toFixed(2)} s`;

export function bytes(n: number): string {
  for (const [size, unit] of [
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ] as const)
    if (n >= size) return `${(n / size).toFixed(1)} ${unit}`;
  return `${Math.round(n)} B`;
}

/** As many digits as are worth reading; a dash where nothing is known. */
export const significant = (n: number | null, digits = 3): string => (n === null ? "–" : n.toPrecision(digits));

export const share = (n: number | null): string => (n === null ? "–" : `${(100 * n).toFixed(n < 0.1 ? 1 : 0)} %`);

export function clock(ms: number): string {
  const at = new Date(ms);
  const time = at.toLocaleTimeString("en-GB", { hour12: false });
  return Date.now() - ms > 12 * 3600_000 ? `${at.toISOString().slice(5, 10)} ${time}` : time;
}

export const exact = (ms: number): string => `${new Date(ms).toISOString().replace("T", " ").replace("Z", "")} UTC`;

export const ago = (ms: number, now: number): string => (ms ? `${seconds(Math.max(0, now - ms) / 1000)} ago` : "never");

/** A record's value on one line, never more than `most` characters. */
export function oneLine(value: unknown, most = 240): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** What a reader may rely on: of topics that others write, nothing is promised. */
export const guarantee = (said: string): string => (said === "none" ? "as its producers write it" : said);
