/**
 * Fine-tuning with adapters.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import type { Device, Tensor } from "../device/device.ts";
import { changeTopK } from "../model/change_top_k.ts";
import { expect } from "../model/expect.ts";
import { expectNoSkipping, expectStage } from "../model/expect_stage.ts";
import { loadWide } from "../model/load_wide.ts";
import type { Model } from "../model/model.ts";
import { advance, type StageOptions } from "../model/stage_options.ts";
import { adamStep } from "./adam_step.ts";
import { type Adapters, createAdapters } from "./adapters.ts";
import { annealTopK, type TopKSchedule } from "./anneal_top_k.ts";
import { type Example, examplesOf, packExamples, tokenizeExamples } from "./examples.ts";
import { examplesFingerprint, modelFingerprint } from "./fingerprint.ts";
import { expectResidentBytes, LayerStore, RESIDENT } from "../model/layer_store.ts";
import { lossGradients } from "./loss_gradients.ts";
import { mergeAdapters } from "./merge_adapters.ts";
import { Parameters, STATES } from "./parameters.ts";
import { checkedRecipe, learningRateAt, type Recipe } from "./recipe.ts";
import { checkTeacher, teacherStream } from "./teacher.ts";
import { trainedRouters } from "./trained_routers.ts";
import { expectUnshared } from "./expect_unshared.ts";
import { readTrainingState, type TrainingPoint, writeTrainingState } from "./training_state.ts";

export interface FinetuneOptions extends Partial<Recipe>, StageOptions {
  /**
   * Learn this model's predictions instead of the text: the loss is KL(teacher ‖ model). With `ROUTER_RECIPE` this fits the routers of a pruned model
   * to the experts that are left (router distillation, arXiv 2603.02217). Final norm and head must be those of the model; `history` tells
   * the loss on the text all the same. @default none
   */
  teacher?: Model;
  /** Called after every step with the loss curve so far, also that of a training that this one continues. */
  onStep?: (point: TrainingPoint, history: readonly TrainingPoint[]) => void;
  /**
   * A folder for the state of the training, which continues from there to the same bits. All weights are read once more, to tell that it is that of this model.
   * @default none
   */
  checkpoint?: string;
  /** Steps from one such state to the next; stopping writes one too. @default 100 */
  checkpointEvery?: number;
  /** Bytes of weights that may stay on the device; a larger model is read layer by layer, twice a step. @default 2 ** 30 */
  residentBytes?: number;
}

/** Bytes of activations held at a time, about. */
export const ACTIVATIONS: number = 2 ** 30;

/** A fine-tuned model: its weights include the adapters. */
export interface TunedModel extends Model {
  adapters: Adapters;
  /** Its losses are of the model in training, which with the adapter "masked-lora" has no mask yet. */
  history: TrainingPoint[];
}

/**
 * Trains adapters on attention and experts (LoRA; MoE-I², third stage) by AdamW on the mean token loss, the rest of the model frozen. On a low-rank expert
 * both factors get an adapter.
 *
 * A sparse model stays as sparse with `adapter: "spp"` (see `SPP_RECIPE`), whose adapters multiply weights, or "masked-lora", which forgets what LoRA did to
 * zeros once it is trained: see {@linkcode AdapterKind}. Plain LoRA fills them.
 *
 * A step of a small model keeps its activations, up to about 1 GiB; a larger one holds the input of every layer, one layer's weights, and at most about
 * 1 GiB of activations in one layer, and runs every layer twice. The bits are the same.
 *
 * @param model Any model. Its weights are not changed.
 * @param examples Text, prompts with completions (only completions count), or Alpaca's fields.
 * @returns The model with the adapters merged, lazily and in float32, beside the adapters and the loss curve.
 * @throws {RangeError} If an option makes no sense, the model has none of the targets, or no example has a token to learn.
 * @throws {TypeError} If an example has none of the forms.
 * @throws {Error} If the model skips experts, or the folder of `checkpoint` holds the state of another training, of another model, or anything else.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const tuned = await finetune(device, model, ["Sum: 1 + 1 = 2.", { prompt: "Sum: 2 + 2 =", completion: " 4." }], { epochs: 5 });
 * assert(tuned.history.at(-1)!.loss < tuned.history[0].loss);
 * ```
 */
export async function finetune(
  device: Device,
  model: Model,
  examples: readonly Example[],
  options: FinetuneOptions = {},
): Promise<TunedModel> {
  expectStage(device, model, "fine-tune", options);
  expectNoSkipping(model, "fine-tune");
  const recipe = checkedRecipe(options);
  if (recipe.targets.includes("experts")) expectUnshared(model);
  const { checkpoint, checkpointEvery = 100, residentBytes = RESIDENT, onStep, teacher } = options;
  checkStore({ checkpoint, checkpointEvery, residentBytes });
  expect(onStep === undefined || onStep === null || typeof onStep === "function", "fine-tune", 'a function as "onStep"', onStep);
  if (teacher !== undefined) await checkTeacher(model, teacher);
  const usable = tokenizeExamples(model, examples, recipe.maxLength);
  const perEpoch = Math.ceil(usable.length / recipe.batch), steps = Math.max(1, Math.round(perEpoch * recipe.epochs));
  const schedule = topKSchedule(model, recipe, steps);
  const adapters = createAdapters(model, { ...recipe, kind: recipe.adapter });
  for (const [name, values] of await trainedRouters(model, recipe.targets)) adapters.values.set(name, values);
  if (adapters.values.size === 0) {
    throw new RangeError(`Cannot fine-tune: the model has none of the targets ${recipe.targets.join(", ")}`);
  }
  const told = checkpoint === undefined ? {} : {
    ...recipe,
    examples: await examplesFingerprint(usable),
    model: await modelFingerprint(model, options.signal),
    teacher: teacher && await modelFingerprint(teacher, options.signal),
  };
  const sizes = new Map([...adapters.values].flatMap(([name, { length }]) => STATES.map((state) => [`${state}/${name}`, length])));
  const saved = checkpoint === undefined ? undefined : await readTrainingState(checkpoint, told, sizes);
  for (const name of adapters.values.keys()) {
    if (saved) adapters.values.set(name, saved.arrays.get(`value/${name}`)!);
  }
  using parameters = new Parameters(
    device,
    model,
    adapters,
    recipe.targets,
    saved && ((name, state) => saved.arrays.get(`${state}/${name}`)!),
  );
  await using store = new LayerStore(device, model, residentBytes);
  await using teacherStore = teacher && new LayerStore(device, teacher, residentBytes);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const history = saved?.history ?? [], bytes = activationBytes(model);
  let done = saved?.step ?? 0, written = done, halfway = false;
  const save = async () => {
    if (checkpoint === undefined || written === done || halfway) return;
    await writeTrainingState(checkpoint, { step: done, history, recipe: told, arrays: await arraysOf(device, parameters) });
    written = done;
  };
  try {
    await advance(options, { stage: "fine-tune", done, total: steps, unit: "steps" });
    while (done < steps) {
      const chosen = examplesOf(done, usable, recipe, perEpoch), learningRate = learningRateAt(done, steps, recipe);
      const seed = (place: string) => random(recipe.seed, `dropout ${done} ${place}`).below(2 ** 32);
      const batches = packExamples(chosen, Math.max(256, Math.floor(ACTIVATIONS / bytes)));
      const topK = annealTopK(done, schedule);
      const { loss, ...entropies } = await lossGradients(device, changeTopK(model, topK), batches, {
        routers: recipe,
        teacher: teacher && ((batch) => teacherStream(device, teacher, teacherStore!, batches[batch], options.signal)),
        keep: store.resident && chosen.reduce((n, { ids }) => n + ids.length, 0) * model.layers.length * bytes <= ACTIVATIONS,
        signal: options.signal,
        norm,
        head,
        load: async (layer) => parameters.withRouter(layer, await store.load(layer)),
        adapters: (layer, weights, batch) => {
          return parameters.adapters(layer, weights, { rate: recipe.dropout, seed: (name) => seed(`${batch} ${name}`) });
        },
        leaves: (layer) => parameters.tensors(layer),
        collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
      });
      if (!Number.isFinite(loss)) throw diverged(done + 1, loss, recipe);
      halfway = true; // until all parameters have taken the step
      const gradientNorm = await adamStep(device, parameters, recipe.clip, {
        learningRate,
        weightDecay: recipe.weightDecay,
        step: done + 1,
      });
      halfway = false;
      if (!Number.isFinite(gradientNorm)) throw diverged(done + 1, loss, recipe);
      const point = { step: ++done, loss, ...entropies, topK, learningRate, gradientNorm };
      history.push(point);
      onStep?.(point, history);
      if (done % checkpointEvery === 0 || done === steps) await save();
      await advance(options, { stage: "fine-tune", done, total: steps, unit: "steps" });
    }
  } catch (error) {
    await save().catch((cause) => {
      throw new Error(`${said(error)}; nor could the training be saved at step ${done}: ${said(cause)}`, { cause: error });
    });
    throw error;
  }
  const trained = await arraysOf(device, parameters, ["value"]);
  for (const name of adapters.values.keys()) adapters.values.set(name, trained.get(`value/${name}`)!);
  return { ...changeTopK(mergeAdapters(model, adapters), schedule.to), adapters, history };
}

/** Parameters and moments on the host, read together: a GPU takes long for each that is waited for alone. */
async function arraysOf(device: Device, { all }: Parameters, states: readonly (typeof STATES[number])[] = STATES) {
  const wanted = [...all].flatMap(([name, parameter]) => states.map((state) => ({ name: `${state}/${name}`, tensor: parameter[state] })));
  const arrays = await Promise.all(wanted.map(({ tensor }) => device.read(tensor) as Promise<Float32Array<ArrayBuffer>>));
  return new Map(wanted.map(({ name }, i) => [name, arrays[i]]));
}

/** Experts a token in each step. */
function topKSchedule({ config: { moe } }: Model, { topK }: Recipe, steps: number): TopKSchedule {
  const { to = moe.topK, over = 0 } = topK ?? {};
  if (to <= moe.topK) return { from: moe.topK, to, steps: Math.round(over * steps) };
  throw new RangeError(`Cannot fine-tune: "topK" must fall from the model's ${moe.topK} experts a token, received ${to} as "to"`);
}

/** Bytes of a token's recorded activations and their gradients in one layer, about. */
function activationBytes({ config: { hidden, moe, denseIntermediate } }: Model): number {
  return 4 * (24 * hidden + moe.topK * (6 * hidden + 8 * moe.intermediate) + 8 * Math.max(moe.shared, denseIntermediate));
}

function diverged(step: number, loss: number, { learningRate }: Recipe): Error {
  return new Error(`Cannot go on fine-tuning: step ${step} has a loss of ${loss}; a lower learning rate than ${learningRate} may help`);
}

const said = (error: unknown) => error instanceof Error ? error.message : `${error}`;

function checkStore({ checkpoint, checkpointEvery, residentBytes }: FinetuneOptions): void {
  const refuse = (name: string, wanted: string, found: unknown) => {
    throw new RangeError(`Cannot fine-tune: "${name}" must be ${wanted}, received ${found}`);
  };
  if (checkpoint !== undefined && (typeof checkpoint !== "string" || checkpoint === "")) {
    refuse("checkpoint", "the path of a folder", checkpoint);
  }
  if (!(Number.isSafeInteger(checkpointEvery) && checkpointEvery! >= 1)) {
    refuse("checkpointEvery", "a whole number of at least 1", checkpointEvery);
  }
  expectResidentBytes(residentBytes, "fine-tune");
}
