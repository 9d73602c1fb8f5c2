/**
 * Why a result is not up to date, in words.
 *
 * @module
 */

import type { Manifest } from "./store.ts";

/** What a result follows from. */
export type Recipe = Pick<Manifest, "version" | "options" | "inputs" | "kernels" | "codec">;

/**
 * Says what is different now: the version, options by their path, inputs, kernels.
 *
 * @param before What the result at hand was made from.
 * @param now What it would be made from.
 * @returns One phrase a difference; none where nothing is different.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const before = { version: 1, codec: "data", options: { ratio: 0.25 }, inputs: { importance: "a" }, kernels: [] };
 * assertEquals(differences(before, { ...before, options: { ratio: 0.5 } }), ["options.ratio 0.25 -> 0.5"]);
 * assertEquals(differences(before, { ...before, inputs: { importance: "b" } }), ["input importance changed"]);
 * ```
 */
export function differences(before: Recipe, now: Recipe): string[] {
  const words: string[] = [];
  if (before.version !== now.version) words.push(`version ${before.version} -> ${now.version}`);
  words.push(...changes(before.options, now.options, "options"));
  for (const name of new Set([...Object.keys(before.inputs), ...Object.keys(now.inputs)])) {
    if (!Object.hasOwn(now.inputs, name)) words.push(`input ${name} is no longer there`);
    else if (!Object.hasOwn(before.inputs, name)) words.push(`input ${name} is new`);
    else if (before.inputs[name] !== now.inputs[name]) words.push(`input ${name} changed`);
  }
  if (before.kernels.join() !== now.kernels.join()) words.push("kernels changed");
  if (before.codec !== now.codec) words.push(`layout ${before.codec} -> ${now.codec}`);
  return words;
}

/** Longest value that is said whole. */
const LONGEST = 60;

function changes(before: unknown, now: unknown, path: string): string[] {
  if (JSON.stringify(before) === JSON.stringify(now)) return [];
  if (isRecord(before) && isRecord(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) => changes(before[key], now[key], `${path}.${key}`));
  }
  const [old, current] = [before, now].map((value) => value === undefined ? "default" : JSON.stringify(value));
  return [old.length + current.length > 2 * LONGEST ? `${path} changed` : `${path} ${old} -> ${current}`];
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
