/**
 * How a model is fine-tuned.
 *
 * @module
 */

import { type Target, TARGETS } from "./adapter_sites.ts";
import { ADAPTER_KINDS, type AdapterKind } from "./adapters.ts";

/** Numbers of a fine-tuning that its result depends on. */
export interface Recipe {
  /** What an adapter makes of its weight; zeros of a sparse model outlive all but "lora". @default "lora" */
  adapter: AdapterKind;
  /** Rank of the adapters. @default 8 */
  rank: number;
  /** Adapters count alpha / rank times. @default 16 */
  alpha: number;
  /** Share of an adapter's inputs that are set to zero in training. @default 0 */
  dropout: number;
  /** What is trained: adapters, and the routers as a whole where named. @default ["attention", "experts"] */
  targets: readonly Target[];
  /** Of AdamW, after warm-up. @default 1e-3 */
  learningRate: number;
  /** Examples in a step. @default 8 */
  batch: number;
  /** Times that every example is seen. @default 2 */
  epochs: number;
  /** Share of all steps in which the learning rate rises in a line from zero. @default 0.1 */
  warmup: number;
  /** How it falls after that, to zero at the end. @default "cosine" */
  schedule: "cosine" | "linear" | "constant";
  /** Decoupled, on adapters and routers. @default 0 */
  weightDecay: number;
  /** Longest norm of the gradient over all parameters; a longer one is scaled down. @default 1 */
  clip: number;
  /** Of the first adapters, the order of examples, and dropout. @default 0 */
  seed: number;
  /** Tokens of an example that are used, from the front; one whose completion lies beyond them is left out. @default 256 */
  maxLength: number;
  /**
   * Weight of the mean entropy of the routers' probabilities, which is added to the loss: choices get sharper, so that fewer experts a token cost less
   * (SEER-MoE, arXiv 2404.05089). It moves routers where they are a target, else what their inputs come from. @default 0
   */
  entropy: number;
  /** Weight of the entropy of the mean probabilities, which is subtracted: it keeps all tokens from going to the same experts (ours). @default 0 */
  balance: number;
  /**
   * Experts a token: they fall from the model's own number to `to` over a share of all steps (see {@linkcode annealTopK}), half of them if `over` does not
   * say. The trained model uses `to`. @default the model's own throughout
   */
  topK?: { readonly to: number; readonly over?: number };
}

const DEFAULTS: Recipe = {
  adapter: "lora",
  rank: 8,
  alpha: 16,
  dropout: 0,
  targets: ["attention", "experts"],
  learningRate: 1e-3,
  batch: 8,
  epochs: 2,
  warmup: 0.1,
  schedule: "cosine",
  weightDecay: 0,
  clip: 1,
  seed: 0,
  maxLength: 256,
  entropy: 0,
  balance: 0,
  topK: undefined,
};

/**
 * The recipe of MoE-I²'s third stage: 2 epochs of LoRA over about 50,000 Alpaca examples (number of epochs and data: one independent note). Nothing
 * else of it is known. The other numbers are those of LLM-Pruner's recovery training, whose epochs and data are the same: inferred, and
 * recalled, not looked up.
 */
export const MOE_I2_RECIPE: Partial<Recipe> = {
  rank: 8,
  alpha: 16,
  dropout: 0.05,
  learningRate: 1e-4,
  batch: 64,
  epochs: 2,
  maxLength: 256,
};

/**
 * Of the distillation of a pruned model's routers: see `teacher` of `finetune`. Of 3e-4, 1e-3, 3e-3, 1e-2 and 3e-2, on 500 sentences beside the 3,500 trained
 * on, half of the experts gone, 1e-2 was best for the embedded Mixtral and 0.007 nats behind 3e-3 for Qwen, and the default of 1e-3 behind it on both. Two
 * epochs, the default, did better than one and about as well as four. Where pruning costs little there is little to win, and it may do harm: see the ladder.
 */
export const ROUTER_RECIPE: Partial<Recipe> = { targets: ["router"], learningRate: 1e-2 };

/**
 * Of SEER-MoE's second stage, beside `topK`, which follows from the model: routers are trained too, and made surer. The paper's weight is not known to us.
 * On the embedded Mixtral and Qwen, a quarter of the experts gone, 250 steps towards top-1 and three seeds, 0.01 changed the perplexity by no more than its
 * error; 0.1 made it worse by 10 % and 1 % in one run each, and by less than 1 % with `balance` at 0.1 beside it.
 */
export const SEER_RECIPE: Partial<Recipe> = { targets: ["attention", "experts", "router"], entropy: 0.01 };

/**
 * SPP's recovery of a sparse model (arXiv 2405.16057 and its code, for LLaMA-7B): adapters that multiply, on all linears. Batch, epochs, length,
 * schedule and clip are those of `finetune`; the code takes 128 examples of up to 512 tokens and 3 epochs of Alpaca, what schedule and clip was not compared. In few steps its learning rate does little: of 0.004, 0.01, 0.03, 0.1 and 0.3, for 63 steps
 * on the embedded Mixtral at 75 %, 0.03 was best.
 */
export const SPP_RECIPE: Partial<Recipe> = {
  adapter: "spp",
  rank: 16,
  alpha: 32,
  dropout: 0.05,
  targets: ["attention", "experts", "shared", "dense"],
  learningRate: 4e-3,
  warmup: 0.03,
};

/** A whole recipe, its targets in their order. @throws {RangeError|TypeError} If a value makes no sense, by name. */
export function checkedRecipe(asked: Partial<Recipe>): Recipe {
  const given = Object.entries(asked).filter(([name, value]) => Object.hasOwn(DEFAULTS, name) && value !== undefined);
  const recipe = { ...DEFAULTS, ...Object.fromEntries(given) } as Recipe, { targets, topK } = recipe, { to, over = 0.5 } = topK ?? {};
  const whole = (value: number) => Number.isSafeInteger(value) && value >= 1;
  const number = (value: unknown) => typeof value === "number";
  const rules: [keyof Recipe, string, boolean][] = [
    ["adapter", `one of ${ADAPTER_KINDS.join(", ")}`, ADAPTER_KINDS.includes(recipe.adapter)],
    ...(["rank", "batch", "maxLength"] as const).map((name) =>
      [name, "a whole number of at least 1", whole(recipe[name])] as [keyof Recipe, string, boolean]
    ),
    ["alpha", "a positive number", recipe.alpha > 0 && Number.isFinite(recipe.alpha)],
    ["dropout", "at least 0 and below 1", number(recipe.dropout) && recipe.dropout >= 0 && recipe.dropout < 1],
    ["learningRate", "a positive number", recipe.learningRate > 0 && Number.isFinite(recipe.learningRate)],
    ["epochs", "a positive number", recipe.epochs > 0 && Number.isFinite(recipe.epochs)],
    ["warmup", "at least 0 and at most 1", number(recipe.warmup) && recipe.warmup >= 0 && recipe.warmup <= 1],
    ["schedule", '"cosine", "linear" or "constant"', ["cosine", "linear", "constant"].includes(recipe.schedule)],
    ["weightDecay", "at least 0", recipe.weightDecay >= 0 && Number.isFinite(recipe.weightDecay)],
    ...(["entropy", "balance"] as const).map((name) =>
      [name, "at least 0", recipe[name] >= 0 && Number.isFinite(recipe[name])] as [keyof Recipe, string, boolean]
    ),
    [
      "topK",
      'an object with a whole number of at least 1 as "to" and a share from 0 to 1 as "over"',
      topK === undefined || (whole(to!) && number(over) && over >= 0 && over <= 1),
    ],
    ["clip", "a positive number", number(recipe.clip) && recipe.clip > 0],
    ["seed", "a whole number", Number.isSafeInteger(recipe.seed)],
    ["targets", `some of ${TARGETS.join(", ")}`, Array.isArray(targets) && targets.length > 0 && targets.every((t) => TARGETS.includes(t))],
  ];
  for (const [name, expected, holds] of rules) {
    if (!holds) {
      throw new RangeError(`Cannot fine-tune: "${name}" must be ${expected}, received ${shown(recipe[name])}`);
    }
  }
  return { ...recipe, topK: topK && { to: to!, over }, targets: TARGETS.filter((target) => targets.includes(target)) };
}

function shown(value: unknown): string {
  return typeof value === "string" || (typeof value === "object" && value !== null) ? JSON.stringify(value) : String(value);
}

/** Learning rate of a step, counted from 0. */
export function learningRateAt(
  step: number,
  steps: number,
  { learningRate, warmup, schedule }: Pick<Recipe, "learningRate" | "warmup" | "schedule">,
): number {
  const rising = Math.round(warmup * steps);
  if (step < rising) return learningRate * (step + 1) / rising;
  const gone = (step - rising) / Math.max(1, steps - rising);
  return learningRate * (schedule === "cosine" ? (1 + Math.cos(Math.PI * gone)) / 2 : schedule === "linear" ? 1 - gone : 1);
}
