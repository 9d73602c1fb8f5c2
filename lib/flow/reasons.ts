/**
 * Why a result is not up to date, in words.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import type { Manifest } from "./manifest.ts";

/** What a result follows from; null as the hash of an input that is not known yet. */
export interface Recipe extends Pick<Manifest, "version" | "options" | "codec"> {
  readonly inputs: Readonly<Record<string, string | null>>;
  readonly kernels: readonly string[];
  /** Names of the stages that the inputs are, by the names of the inputs. */
  readonly stages?: Readonly<Record<string, string>>;
}

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
    const stage = now.stages?.[name] ?? name;
    if (!Object.hasOwn(now.inputs, name)) words.push(`input ${stage} is no longer there`);
    else if (!Object.hasOwn(before.inputs, name)) words.push(`input ${stage} is new`);
    else if (now.inputs[name] !== null && before.inputs[name] !== now.inputs[name]) words.push(`input ${stage} changed`);
  }
  if (before.kernels.join() !== now.kernels.join()) words.push("kernels changed");
  if (before.codec !== now.codec) words.push(`layout ${before.codec} -> ${now.codec}`);
  return words;
}

/** Characters of two values that are said whole. */
const LONGEST = 120;

function changes(before: unknown, now: unknown, path: string): string[] {
  if (JSON.stringify(before) === JSON.stringify(now)) return [];
  if (isPlain(before) && isPlain(now)) {
    return [...new Set([...Object.keys(before), ...Object.keys(now)])].flatMap((key) => changes(before[key], now[key], `${path}.${key}`));
  }
  const [old, current] = [before, now].map((value) => value === undefined ? "default" : inWords(value));
  return [old.length + current.length > LONGEST ? `${path} changed` : `${path} ${old} -> ${current}`];
}

/** An object of the user, not one that stands for something that JSON has no word for. */
const isPlain = (value: unknown): value is Record<string, unknown> => isObject(value) && !Object.keys(value)[0]?.startsWith("$");

function inWords(value: unknown): string {
  return isObject(value) && typeof value.$number === "string" ? value.$number : JSON.stringify(value);
}
