/**
 * What a device can do. Two implementations answer to this interface, `webgpu` and `cpu`; nothing above this room knows which one it has.
 *
 * Operations take tensors and give new ones at once. Arguments that do not fit are refused on the spot, by the same sentence on every device, and leave no
 * tensor behind; what would take a look at the elements (an index beyond the last) is not checked, but has a meaning given below.
 *
 * On a GPU the work is only queued; `read` and `sync` wait for it, and are where its errors come out. A GPU that refused any work, or had no memory left,
 * cannot say which results are missing: its first error is thrown by everyone who waits, then or later, and by every call from then on. Open a new device.
 *
 * @module
 */

import type { Neurons } from "./neurons.ts";
import type {
  AttentionOptions,
  Experts,
  ExpertSource,
  FitnessInputs,
  Heads,
  Ranking,
  RotaryOptions,
  RouterGroups,
  RouterRule,
  Tensor,
  TensorSource,
} from "./types.ts";
import type { Training } from "./vjp.ts";

export * from "./types.ts";

export interface Device extends Training, Neurons, Disposable {
  readonly kind: "cpu" | "webgpu";
  /** The hardware or library, such as "OpenBLAS 0.3.21, 2 threads". */
  readonly name: string;
  /** Why this device and no other, in a sentence. */
  readonly reason: string;
  /** Tensors (and stacks of experts) alive, and their bytes. */
  readonly live: { tensors: number; bytes: number };

  /** Copies numbers to the device; a `Uint32Array` gives U32, numbers give F32. */
  tensor(values: Float32Array | Uint32Array, shape: readonly number[]): Tensor;
  /** Reads a weight and keeps it in its stored type. */
  load(source: TensorSource): Promise<Tensor>;
  /** Reads the experts of a layer and keeps them in their stored types; all have one hidden size; intermediate sizes and ranks may differ. */
  loadExperts(experts: readonly ExpertSource[]): Promise<Experts>;
  /** The numbers of an F32 tensor, in row-major order. Waits for all work before it. */
  read(tensor: Tensor): Promise<Float32Array>;
  /** The same for a U32 tensor. */
  readIndices(tensor: Tensor): Promise<Uint32Array>;
  /** Waits until all queued work is done and throws if any of it failed. */
  sync(): Promise<void>;

  /** x `[rows, in]` · weightᵀ `[in, out]` + bias `[out]`. The weight may be of any type, the rest is F32. */
  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor;
  /** x[i] · gain / rms(x[i]) over rows as wide as the gain. */
  rmsNorm(x: Tensor, gain: Tensor, epsilon: number): Tensor;
  /** Rotary position embedding, in place. */
  rotary(x: Tensor, options: RotaryOptions): void;
  /** Causal attention; a score is the sum over the parts of query · key. Gives `[tokens, heads * value width]`. Long rows are never held for all heads at once. */
  attention(query: readonly Heads[], key: readonly Heads[], value: Heads, options: AttentionOptions): Tensor;
  /** silu(gate) * up. */
  swiglu(gate: Tensor, up: Tensor): Tensor;
  /** into += x, or into += sigmoid(gate) * x with one gate a row. */
  add(into: Tensor, x: Tensor, gate?: Tensor): void;
  /** x *= factors, element by element, in place: as many as x has, or one row of them for all rows of x. */
  multiply(x: Tensor, factors: Tensor): void;
  /** Softmax over each row. */
  softmax(x: Tensor): Tensor;
  /**
   * The `ranks` best experts of each token from probabilities `[tokens, experts]`, within the admitted groups if there are groups. Ranks that no expert
   * fills hold `NO_EXPERT` and 0; experts whose probability is not a number come last.
   */
  rank(probabilities: Tensor, ranks: number, groups?: RouterGroups): Ranking;
  /** Routing weights `[tokens, ranks]` of ranked experts that are all used: renormalised and scaled as the rule says; 0 where all probabilities are. */
  gates(ranking: Ranking, rule: RouterRule): Tensor;
  /**
   * The same ranking without each token's least probable experts, which together hold at most `share` of its ranked probability; the best one always stays.
   * They become `NO_EXPERT` and 0, and the others' probabilities are scaled to the sum of all, so that gates keep their sum. Nothing is left out where that
   * sum is not a number.
   */
  skip(ranking: Ranking, share: number): Ranking;
  /** Output of each listed expert for its token: x `[tokens, hidden]`, experts `[tokens, ranks]` -> `[tokens, ranks, hidden]`; zero for `NO_EXPERT` and what the layer has not. */
  experts(x: Tensor, experts: Tensor, weights: Experts): Tensor;
  /** Σ_r gates[t, r] · outputs[t, r]: `[tokens, ranks, hidden]` -> `[tokens, hidden]`. */
  combine(outputs: Tensor, gates: Tensor): Tensor;
  /** Rows of x, chosen by U32 indices: `[...rows.shape, ...width]`; zero where x has no such row. */
  gather(x: Tensor, rows: Tensor): Tensor;
  /** Inner products of the rows of each item: `[items, rows, width]` -> `[items, rows, rows]`. */
  gram(x: Tensor): Tensor;
  /** The same numbers in F32. */
  widen(x: Tensor): Tensor;
  /** Transpose of a matrix. */
  transpose(x: Tensor): Tensor;
  /** Squared Euclidean norm of each row of a, or of a - b. */
  squares(a: Tensor, b?: Tensor): Tensor;
  /** Σ_i min(a[t, i], b[t, i]) of each row. */
  overlap(a: Tensor, b: Tensor): Tensor;
  /** -log softmax(x · headᵀ)[target] of each row; the logits are never held for the whole vocabulary. NaN for a target beyond it. */
  crossEntropy(x: Tensor, head: Tensor, targets: Tensor): Tensor;
  /**
   * Squared Frobenius norm of the routed output's change for each set of dropped experts (positions in the layer), never below 0 without `along`. A token
   * that has no expert left, or none with a probability above 1e-37, has an output of zero then.
   */
  fitness(inputs: FitnessInputs, sets: readonly (readonly number[])[]): Promise<Float64Array>;
  /**
   * The `count` largest eigenvalues of a symmetric matrix of finite numbers `[n, n]`, falling, and their eigenvectors as rows `[count, n]`.
   *
   * With `nearly`, for a matrix that has no negative eigenvalues: orthonormal rows that need not be eigenvectors, in less time; what they leave of the sum of
   * the eigenvalues is within 0.2 % of the least possible.
   */
  eigen(matrix: Tensor, count: number, options?: { nearly?: boolean }): Promise<{ values: Float64Array; vectors: Tensor }>;
}
