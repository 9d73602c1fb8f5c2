/**
 * Checked definitions.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import { recipeHash } from "../export/recipe_hash.ts";
import { dataCodec, decoded, encodeData } from "./data_codec.ts";
import { textHash } from "./files.ts";
import type { Codec, Inputs, Results, StageContext, StageDefinition } from "./stage.ts";
import { folderName } from "./store.ts";

/** A stage as a flow keeps it: everything settled. */
export interface Definition {
  readonly name: string;
  readonly version: number;
  /** Names of stages, by the name of the input. */
  readonly inputs: Readonly<Record<string, string>>;
  /** In the JSON of `encodeData`: what is done to the options afterwards changes nothing. */
  readonly options: unknown;
  /** Hashes of the texts. */
  readonly kernels: readonly string[];
  readonly codec: Codec<unknown>;
  readonly stored: boolean;
  run(inputs: Readonly<Record<string, unknown>>, context: StageContext): unknown;
}

/** Longest name of a folder, in bytes. File systems take 255; paths are to stay short. */
const LONGEST = 120;

/**
 * Checks a definition.
 *
 * @param known The stages that there are.
 * @throws {TypeError} If something in it is not what it must be, or options are no plain data.
 * @throws {RangeError} If the name cannot be used, an input is unknown, or the stage would follow from itself.
 */
export function definitionOf(
  name: string,
  definition: StageDefinition<Inputs, unknown, unknown>,
  known: ReadonlyMap<string, Definition>,
): Definition {
  expect(typeof name === "string", "define a stage", "a name", name);
  if (!/[\p{L}\p{N}]/u.test(name) || new TextEncoder().encode(folderName(name)).length > LONGEST) {
    throw new RangeError(`Cannot define a stage "${name}": a name has a letter or digit, and at most ${LONGEST} bytes`);
  }
  const clash = [...known.keys()].find((other) => other !== name && onAnyDisk(other) === onAnyDisk(name));
  if (clash !== undefined) throw new RangeError(`Cannot define a stage "${name}": on some disks its folder is that of "${clash}"`);
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
  expect(typeof codec?.encode === "function" && typeof codec.decode === "function", purpose, 'a codec with "encode" and "decode"', codec);
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
  const json = plain(options, purpose), runs = (inputs: Results<Inputs>, context: StageContext) => run(inputs, decoded(json), context);
  return { name, version, inputs: names, options: json, kernels: kernels.map(textHash), codec, stored, run: runs };
}

/** What is left of a name on a disk that tells neither upper from lower case nor one spelling of an accent from the other. */
const onAnyDisk = (name: string) => folderName(name.normalize("NFC")).toLowerCase();

/** Options as JSON. */
function plain(options: unknown, purpose: string): unknown {
  try {
    return told((encodeData({ options }, Infinity).json as { options: unknown }).options);
  } catch (error) {
    throw new TypeError(`Cannot ${purpose}: ${(error as Error).message.replace("Cannot keep", "it cannot keep")}`, { cause: error });
  }
}

/** Without what is undefined: to name an option and not to give it is the same. */
function told(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(told);
  if (!isObject(json) || Object.keys(json)[0]?.startsWith("$")) return json;
  return Object.fromEntries(
    Object.entries(json).filter(([, value]) => !(isObject(value) && value.$undefined)).map(([key, value]) => [key, told(value)]),
  );
}

/** The way from one of `from` up to the stage `name`, if there is one. */
function pathTo(
  name: string,
  from: readonly string[],
  known: ReadonlyMap<string, Definition>,
  seen = new Set<string>(),
): string[] | undefined {
  for (const at of from) {
    if (at === name) return [at];
    if (seen.has(at)) continue;
    seen.add(at);
    const above = pathTo(name, Object.values(known.get(at)?.inputs ?? {}), known, seen);
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
