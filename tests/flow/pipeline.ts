/** The pipeline on a few short sequences of an embedded model, as stages. */

import type { Flow } from "../../lib/flow/flow.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import { stages } from "../../lib/flow/stages.ts";
import { folderOf } from "../fixtures.ts";

export interface PipelineOptions {
  name?: string;
  sequences?: number;
  length?: number;
  ratio?: number;
}

export async function pipeline(flow: Flow, { name = "tiny-qwen2-moe", sequences = 3, length = 24, ratio = 0.25 }: PipelineOptions = {}) {
  const { calibration }: { calibration: number[][] } = JSON.parse(await Deno.readTextFile(`${folderOf(name)}/tokens.json`));
  const model = await modelSource(flow, "model", folderOf(name));
  const ids = calibration.slice(0, sequences).map((ids) => Uint32Array.from(ids.slice(0, length)));
  const tokens = await source(flow, "tokens", ids);
  const trace = flow.stage("trace", stages.calibrate({ model, tokens }));
  const importance = flow.stage("importance", stages.leaveOneOut({ model, trace }, { batch: 2 }));
  const budget = flow.stage("budget", stages.pruningBudget({ scores: importance }, { ratio }));
  const search = { population: 20, generations: 8, keep: 2, seed: 0 };
  const candidates = flow.stage("candidates", stages.geneticSearch({ model, trace, budget }, search));
  const plan = flow.stage("plan", stages.receptionField({ model, tokens, candidates }, { keep: 2, block: 2 }));
  const pruned = flow.stage("pruned", stages.pruneExperts({ model, plan }));
  const again = flow.stage("trace of what is left", stages.calibrate({ model: pruned, tokens }));
  const scores = flow.stage("importance of what is left", stages.leaveOneOut({ model: pruned, trace: again }));
  const ranks = flow.stage("ranks", stages.allocateRanks({ scores }, { averageRank: 12 }));
  const small = flow.stage("small", stages.decomposeExperts({ model: pruned, ranks }));
  return { model, tokens, trace, importance, budget, candidates, plan, pruned, again, scores, ranks, small };
}
