/**
 * Bytes and seconds for people.
 *
 * @module
 */

/**
 * Bytes with a unit that keeps the number short.
 *
 * @param bytes A number of bytes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals([0, 1023, 1536, 5495040, 2 ** 40].map(formatBytes), ["0 B", "1,023 B", "1.5 KiB", "5.24 MiB", "1,024 GiB"]);
 * ```
 */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(Math.abs(bytes) || 1) / 10))), size = bytes / 1024 ** power;
  return `${size.toLocaleString("en", { maximumFractionDigits: power === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2 })} ${units[power]}`;
}

/**
 * Seconds, as minutes and hours where they are many.
 *
 * @param seconds A duration.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals([0.0123, 12.34, 61, 7384].map(formatSeconds), ["0.01 s", "12.3 s", "1 min 1 s", "2 h 3 min"]);
 * ```
 */
export function formatSeconds(seconds: number): string {
  if (!(seconds >= 59.95)) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  return whole < 3600 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
