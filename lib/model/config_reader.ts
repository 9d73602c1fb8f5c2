/**
 * Reads single values out of a config.json, with errors that name the key, what it holds and what it should hold.
 *
 * @module
 */

/** The values of one config.json, asked for by key; of several keys the first one present counts (spellings changed over the years). */
export class ConfigReader {
  constructor(readonly raw: Readonly<Record<string, unknown>>, readonly where: string) {}

  /** The value of the first present key. */
  find(keys: readonly string[]): unknown {
    for (const key of keys) {
      if (this.raw[key] !== undefined) return this.raw[key];
    }
    return undefined;
  }

  /** A whole number of at least `least`. Null and absence take `otherwise`; without it they are errors. */
  size(keys: string | readonly string[], otherwise?: number, least = 1): number {
    const list = typeof keys === "string" ? [keys] : keys, value = this.find(list) ?? otherwise;
    if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
    throw this.error(list[0], value, `a whole number of at least ${least}`);
  }

  number(key: string, otherwise: number): number {
    const value = this.raw[key] ?? otherwise;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw this.error(key, value, "a number");
  }

  flag(key: string, otherwise: boolean): boolean {
    const value = this.raw[key] ?? otherwise;
    if (typeof value === "boolean") return value;
    throw this.error(key, value, "true or false");
  }

  /** A key that must be there, with a whole number or null. */
  sizeOrNull(key: string): number | null {
    if (this.raw[key] === undefined) throw this.error(key, undefined, "a whole number or null");
    return this.raw[key] === null ? null : this.size(key);
  }

  /** Refuses values that would change the mathematics in a way that is not implemented. Null and absence pass. */
  only(key: string, allowed: readonly unknown[]): void {
    const value = this.raw[key];
    if (value === undefined || value === null || allowed.includes(value)) return;
    throw this.unsupported(key, value, allowed.length > 0 ? allowed.map((v) => JSON.stringify(v)).join(" or ") : "no value at all");
  }

  unsupported(key: string, value: unknown, implemented: string): Error {
    return new Error(`Cannot open ${this.where}: "${key}" is ${JSON.stringify(value)}, but only ${implemented} is implemented`);
  }

  error(key: string, value: unknown, wanted: string): TypeError {
    const found = value === undefined ? "nothing" : JSON.stringify(value);
    return new TypeError(`Cannot open ${this.where}: "${key}" of config.json must be ${wanted}, found ${found}`);
  }
}
