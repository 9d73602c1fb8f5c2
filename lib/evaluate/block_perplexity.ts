/**
 * Perplexity as papers on compression report it.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expect } from "../model/expect.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { beginning, type BosRule } from "./encode_requests.ts";
import { type Perplexity, perplexity } from "./perplexity.ts";
import { longestInput } from "./request_likelihoods.ts";

export interface BlockPerplexityOptions extends StageOptions {
  /** Tokens of a block. @default 2048 */
  length?: number;
  /** What joins the texts: `"\n\n"` for the lines of WikiText, `" "` for documents of C4. @default "\n\n" */
  separator?: string;
  /** Only the first so many blocks. @default all */
  blocks?: number;
  /** Whether BOS begins the corpus, once. @default "tokenizer" */
  bos?: BosRule;
}

export interface BlockPerplexity extends Perplexity {
  /** Blocks that were scored, and the tokens of each. */
  blocks: number;
  length: number;
}

/**
 * Perplexity of a token over consecutive blocks of one corpus, as GPTQ and the papers after it measure WikiText-2 and C4: all texts are joined and
 * encoded together, cut into blocks, and every block is read on its own; all its tokens but the first are predicted. What is left after the last whole
 * block does not count. Not comparable with `documentPerplexity`.
 *
 * @param texts In order, such as the lines of WikiText-2's test split.
 * @throws {RangeError} If the texts do not fill one block, or a block is longer than the model can read.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { blocks, tokens } = await blockPerplexity(device, model, ["Sum: 12 + 30 = 42.", "Sum: 1 + 1 = 2."], { length: 5 });
 * assertEquals([blocks, tokens], [3, 12]);
 * ```
 */
export async function blockPerplexity(
  device: Device,
  model: Model,
  texts: readonly string[],
  options: BlockPerplexityOptions = {},
): Promise<BlockPerplexity> {
  expectStage(device, model, "measure perplexity", options);
  const { length = 2048, separator = "\n\n", blocks = Infinity, bos = "tokenizer", ...control } = options;
  expect(Array.isArray(texts) && texts.every((text) => typeof text === "string"), "measure perplexity", "a list of texts", texts);
  expect(typeof separator === "string", "measure perplexity", 'a text as "separator"', separator);
  const longest = longestInput(model), fail = (why: string) => new RangeError(`Cannot measure perplexity by blocks: ${why}`);
  if (!(Number.isSafeInteger(length) && length >= 2 && length <= longest)) {
    throw fail(`"length" must be a whole number from 2 to the model's ${longest} positions, received ${length}`);
  }
  if (!(blocks === Infinity || (Number.isSafeInteger(blocks) && blocks > 0))) {
    throw fail(`"blocks" must be a positive whole number, received ${blocks}`);
  }
  const ids = Uint32Array.from([...beginning(model.tokenizer, bos), ...model.tokenizer.encode(texts.join(separator))]);
  const count = Math.min(blocks, Math.floor(ids.length / length));
  if (!(count >= 1)) throw fail(`the texts have ${ids.length} tokens, expected at least one block of ${length}`);
  const sequences = Array.from({ length: count }, (_, i) => ids.subarray(i * length, (i + 1) * length));
  return { ...await perplexity(device, model, sequences, control), blocks: count, length };
}
