/**
 * Checked definitions.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { recipeHash } from "../export/recipe_hash.ts";
import { dataCodec } from "./data_codec.ts";
import type { Codec, Inputs, StageContext, StageDefinition } from "./stage.ts";
import { folderName, textHash } from "./store.ts";

/** A stage as a flow keeps it: everything settled. */
export interface Definition {
  readonly name: string;
  readonly version: number;
  /** Names of stages, by the name of the input. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly options: unknown;
  /** Hashes of the texts. */
  readonly kernels: readonly string[];
  readonly codec: Codec<unknown>;
  readonly stored: boolean;
  run(inputs: Readonly<Record<string, unknown>>, options: unknown, context: StageContext): unknown;
}

/** Longest name of a folder that every system takes, with the endings that the store adds. */
const LONGEST = 120;

/**
 * Checks a definition.
 *
 * @param known The stages that there are.
 * @throws {TypeError} If something in it is not what it must be.
 * @throws {RangeError} If the name cannot be used, an input is unknown, or the stage would follow from itself.
 */
export function definitionOf(
  name: string,
  definition: StageDefinition<Inputs, unknown, unknown>,
  known: ReadonlyMap<string, Definition>,
): Definition {
  expect(typeof name === "string", "define a stage", "a name", name);
  if (name.trim() === "" || folderName(name).length > LONGEST) {
    throw new RangeError(`Cannot define a stage "${name}": a name has 1 to ${LONGEST} characters`);
  }
  const purpose = `define the stage "${name}"`;
  expect(typeof definition === "object" && definition !== null, purpose, "a definition with version and run", definition);
  const { version, inputs = {}, options = {}, kernels = [], codec = dataCodec, stored = true, run } = definition;
  expect(Number.isSafeInteger(version), purpose, 'a whole number as "version"', version);
  expect(typeof run === "function", purpose, 'a function as "run"', run);
  expect(typeof inputs === "object" && inputs !== null, purpose, 'stages by name as "inputs"', inputs);
  expect(
    Array.isArray(kernels) && kernels.every((text) => typeof text === "string"),
    purpose,
    'the texts of WGSL files as "kernels"',
    kernels,
  );
  const names = Object.fromEntries(
    Object.entries(inputs).map(([input, stage]) => {
      expect(typeof stage?.name === "string", purpose, `a stage as the input "${input}"`, stage);
      if (!known.has(stage.name)) {
        throw new RangeError(`Cannot ${purpose}: there is no stage "${stage.name}", which it names as input "${input}"`);
      }
      return [input, stage.name];
    }),
  );
  const circle = pathTo(name, Object.values(names), known);
  if (circle) throw new RangeError(`Cannot ${purpose}: it would follow from itself, by ${circle.map((at) => `"${at}"`).join(" from ")}`);
  let plain: unknown;
  try {
    plain = JSON.parse(JSON.stringify(options));
  } catch {
    plain = undefined;
  }
  expect(plain !== undefined && JSON.stringify(plain) === JSON.stringify(options), purpose, 'plain data as "options"', options);
  return { name, version, inputs: names, options, kernels: kernels.map(textHash), codec, stored, run: run as Definition["run"] };
}

/** The way from one of `from` up to the stage `name`, if there is one. */
function pathTo(name: string, from: readonly string[], known: ReadonlyMap<string, Definition>): string[] | undefined {
  for (const at of from) {
    if (at === name) return [at];
    const above = pathTo(name, Object.values(known.get(at)?.inputs ?? {}), known);
    if (above) return [at, ...above];
  }
  return undefined;
}

/** SHA-256 of everything that a result follows from. */
export async function keyOf(
  { name, version, options, kernels, codec, stored }: Definition,
  inputs: Record<string, string>,
): Promise<string> {
  return await recipeHash({ name, version, options, kernels, codec: stored ? codec.name : null, inputs });
}
