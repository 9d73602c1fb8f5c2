/**
 * Ready definitions of stages: the functions of the pipeline with their inputs, options and kernels.
 *
 * @module
 */

import { calibrateStages } from "./stages/calibrate.ts";
import { decomposeStages } from "./stages/decompose.ts";
import { deltaStages } from "./stages/delta.ts";
import { evaluateStages } from "./stages/evaluate.ts";
import { finetuneStages } from "./stages/finetune.ts";
import { importanceStages } from "./stages/importance.ts";
import { mergeStages } from "./stages/merge.ts";
import { modelStages } from "./stages/model.ts";
import { peerStages } from "./stages/peer.ts";
import { searchStages } from "./stages/search.ts";
import { sparsifyStages } from "./stages/sparsify.ts";
import { structuredStages } from "./stages/structured.ts";

/**
 * Ready definitions, by the function that they wrap.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { modelSource } from "./model_source.ts";
 * import { source } from "./source.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * const model = await modelSource(flow, "model", "notebooks/checkpoints/tiny-mixtral");
 * const tokens = await source(flow, "tokens", [Uint32Array.of(0, 389, 26, 7)]);
 * const trace = flow.stage("trace", stages.calibrate({ model, tokens }));
 * const importance = flow.stage("importance", stages.leaveOneOut({ model, trace }, { batch: 8 }));
 * assertEquals((await flow.run(importance, { upstream: true })).layers.length, 4);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export const stages = {
  ...calibrateStages,
  ...importanceStages,
  ...searchStages,
  ...mergeStages,
  ...decomposeStages,
  ...deltaStages,
  ...sparsifyStages,
  ...structuredStages,
  ...modelStages,
  ...finetuneStages,
  ...evaluateStages,
  ...peerStages,
};
