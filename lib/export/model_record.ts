/**
 * What winnow.json says.
 *
 * @module
 */

import type { RankPlan } from "../decompose/allocate_ranks.ts";
import type { KeptLayer, KeptParts } from "../model/assemble_model.ts";
import type { ExpertScores } from "../importance/expert_scores.ts";
import type { LayerMerge } from "../model/model.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import type { Candidates } from "../search/candidates.ts";

/** What the stages before knew and the model itself does not show. All of it may be absent. */
export interface Provenance {
  /** Of every expert of the original model: other prunings follow from them. */
  scores?: ExpertScores;
  /** Of every expert that is left, if ranks came from such scores: other ranks follow from them. */
  rankScores?: ExpertScores;
  /** The best sets that a search found. */
  candidates?: Candidates;
  /** Options of the stages, in any order that suits: plain data. */
  options?: Readonly<Record<string, unknown>>;
  seed?: number;
}

/** What winnow.json says. */
export interface ModelRecord extends Provenance {
  /** Of the file's layout. */
  format: 1;
  /** Of the programs that wrote it. */
  versions: { winnow: string; deno: string };
  /** What was compressed: `experts` in each MoE layer; `location` is its address, of a folder only the name, absent where it is not known. */
  original: { architecture: string; experts: number; location?: string };
  /** Pairs of layers that became one, in order; absent where none did. Everything else here goes by the numbers of the layers that are left. */
  merges?: LayerMerge[];
  /** Every MoE layer listed. */
  plan: PruningPlan;
  /** Every MoE layer listed, with the experts that have low rank; absent where none has. `target` is the sum itself: the weights do not show what was aimed at. */
  ranks?: RankPlan;
  /**
   * Every MoE layer as the config's `winnow` lists it, where experts were merged, are constants or differences from a shared one, are skipped, have lost
   * channels, or have biases or matrices of different ranks; else absent.
   */
  forms?: KeptLayer[];
  /** Layers that have lost heads or channels that every token meets, or whose attention has factors or further biases; absent where none has. */
  parts?: KeptParts[];
  /** SHA-256 over canonical JSON of `original`, `merges`, `plan`, `ranks`, `forms`, `parts`, `options` and `seed`: 64 hexadecimal digits, equal for models that were made alike. */
  recipe: string;
}
