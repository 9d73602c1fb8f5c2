/**
 * Numbers for people.
 *
 * @module
 */

/** Significant digits of a number that is not whole, where nobody says otherwise. */
const SIGNIFICANT = 4;

/**
 * Writes a number with its thousands grouped: whole numbers whole, others with four significant digits, very large and very small ones by powers of ten.
 *
 * @param value Any number.
 * @param digits Digits after the point, where they are to be the same in a whole column.
 * @returns Text that is the same in every locale.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals([2747520, 0.123456, 1234.56, 1.5e-9, 1e20, NaN].map((value) => formatNumber(value)), ["2,747,520", "0.1235", "1,234.6", "1.5e-9", "1e20", "NaN"]);
 * assertEquals([formatNumber(83.1, 2), formatNumber(-1e-9, 2)], ["83.10", "0.00"]);
 * ```
 */
export function formatNumber(value: number, digits?: number): string {
  if (!Number.isFinite(value)) return `${value}`.replace("Infinity", "∞");
  if (digits !== undefined) {
    return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "negative" });
  }
  const size = Math.abs(value);
  if (Number.isSafeInteger(value)) return value.toLocaleString("en");
  if (size < 1e-4 || size >= 1e15) return Number(value.toPrecision(SIGNIFICANT)).toExponential().replace("e+", "e");
  const whole = Math.max(1, Math.floor(Math.log10(size)) + 1);
  return value.toLocaleString(
    "en",
    size >= 1000 ? { maximumFractionDigits: 1 } : { maximumSignificantDigits: Math.max(SIGNIFICANT, whole) },
  );
}
