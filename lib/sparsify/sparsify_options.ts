/**
 * How a model is made sparse.
 *
 * @module
 */

import type { DecoderLayer, Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { type Amount, type AmountOptions, amountsOf } from "./amounts.ts";
import { type Linear, linearsOf, type Scope } from "./linears.ts";
import type { SparseGptOptions } from "./sparse_gpt.ts";

/** How weights are chosen, and whether those that stay change: see `sparsify`. */
export type Carrier = "magnitude" | "wanda" | "moe-pruner" | "sparsegpt";

export interface SparsifyOptions extends StageOptions, AmountOptions, SparseGptOptions {
  /** @default {"moe-pruner"} */
  carrier?: Carrier;
  /** Which linears: all of the decoder layers, or those of routed experts. @default {"all"} */
  scope?: Scope;
}

/** The linears of a layer that lose weights. */
export interface PlannedLayer {
  layer: DecoderLayer;
  amount: Amount;
  linears: Linear[];
}

const CARRIERS: readonly Carrier[] = ["magnitude", "wanda", "moe-pruner", "sparsegpt"], SCOPES: readonly Scope[] = ["all", "experts"];

/**
 * What each layer loses.
 *
 * @throws {TypeError | RangeError} If an option is none of its kind or out of range.
 */
export function planOf(model: Model, options: SparsifyOptions): PlannedLayer[] {
  const { carrier = "moe-pruner", scope = "all", damping = 0.01, blockSize = 128 } = options;
  expectOneOf("carrier", carrier, CARRIERS), expectOneOf("scope", scope, SCOPES);
  if (!(Number.isFinite(damping) && damping > 0)) {
    throw new RangeError(`Cannot sparsify: "damping" must be above 0 and finite, received ${String(damping)}`);
  }
  if (!(Number.isSafeInteger(blockSize) && blockSize > 0)) {
    throw new RangeError(`Cannot sparsify: "blockSize" must be a whole number of at least 1, received ${String(blockSize)}`);
  }
  const amounts = amountsOf(model, options, "sparsify");
  return model.layers.map((layer) => {
    const amount = amounts.get(layer.index)!, linears = linearsOf(layer, scope), none = ("m" in amount ? amount.n : amount.sparsity) === 0;
    if ("m" in amount) {
      const odd = linears.find(({ weight }) => weight.shape[1] % amount.m !== 0);
      if (odd) {
        throw new RangeError(
          `Cannot sparsify layer ${layer.index}: "${odd.name}" has ${
            odd.weight.shape[1]
          } inputs, which is no multiple of the pattern's m, ${amount.m}`,
        );
      }
      if (carrier === "sparsegpt" && blockSize % amount.m !== 0) {
        throw new RangeError(`Cannot sparsify: "blockSize" must be a multiple of the pattern's m, ${amount.m}, received ${blockSize}`);
      }
    }
    return { layer, amount, linears: none ? [] : linears };
  });
}

function expectOneOf(name: string, value: unknown, known: readonly string[]): void {
  if (typeof value === "string" && known.includes(value)) return;
  throw new TypeError(`Cannot sparsify: "${name}" must be one of ${known.map((k) => `"${k}"`).join(", ")}, received ${String(value)}`);
}
