/** Reference numbers of one fixture, all from float32 arithmetic on its bf16 weights, on `tokens.json`: 32 calibration and 32 held-out sequences. */
export interface Reference {
  parameters: number;
  tokenizer: { text: string; ids: number[] }[];
  /** Calibration sequence 0, by position: the first 8 logits, log Σ exp and argmax. */
  logits: Record<string, { first8: number[]; logsumexp: number; argmax: number }>;
  /** Mean -log p of tokens 1 … of calibration sequences 0 to 3. */
  nll: number[];
  /** e^(mean -log p) of all predicted held-out tokens. */
  perplexity: { dense: number; pruned_layerwise_best: number; pruned_reception_field: number; pruned_and_decomposed: number };
  /** Experts and weights of tokens 0 to 7 of calibration sequence 0; counts and the Frobenius norm of the MoE input over all calibration tokens. */
  routing: { layer: number; experts: number[][]; weights: number[][]; counts: number[]; inputNorm: number }[];
  /** By layer: summed Frobenius norms of the routed output's change without each expert, in batches of 8 sequences. */
  importance: Record<string, number[]>;
  /** First and last MoE layer: mean over batches of the mean token loss without each expert, minus the dense one. */
  lossImportance: Record<string, number[]>;
  /** Experts to drop at 25 %, strategy inverse. */
  budget: Record<string, number>;
  /** The three best sets of each layer by exhaustive search, on dense inputs, all tokens as one batch. */
  bestSets: Record<string, { drop: number[]; loss: number }[]>;
  /** Reception field, K = T = 3. */
  blocks: { layers: number[]; combinations: number; best: { choice: number[]; loss: number }[]; first_choices: number }[];
  plan: Record<string, number[]>;
  /** Importance again on the pruned model, and the ranks that follow. */
  averageRank: number;
  prunedImportance: Record<string, number[]>;
  ranks: Record<string, number[]>;
  /** Gate projection of the first MoE layer's expert 0, at the average rank. */
  svd: { singularValues: number[]; relativeError: number };
  /** Right answers among the first 60 items of each task: by log-likelihood, and by log-likelihood a character. */
  tasks: Record<"dense" | "pruned_and_decomposed", Record<string, [number, number]>>;
  /** Log-likelihoods of the choices of the first three items of each task. */
  firstItems: Record<string, number[][]>;
}
