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

import type { Training } from "./vjp.ts";

/** Element types that checkpoints use, by safetensors' names. All arithmetic is in float32. */
export type DType = "F32" | "BF16" | "F16";

/** Bytes of one element of each type. */
export const BYTES: Readonly<Record<DType, number>> = { F32: 4, BF16: 2, F16: 2 };

/** A row-major array on a device. Its memory is given back when it is disposed, never before and never later. */
export interface Tensor extends Disposable {
  readonly shape: readonly number[];
  readonly dtype: DType | "U32";
}

/** Somewhere a weight can be read from, such as a byte range of a checkpoint file. */
export interface TensorSource {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Fills `into`, exactly as long as the tensor, with its little-endian bytes. */
  read(into: Uint8Array): Promise<void>;
}

/** A weight matrix `[out, in]`, or the product of two: `left [out, rank] · right [rank, in]`. */
export type MatrixSource = TensorSource | { readonly left: TensorSource; readonly right: TensorSource };

/** The three matrices of a SwiGLU expert: `down · (silu(gate · x) * (up · x))`. */
export interface ExpertSource {
  /** `[intermediate, hidden]` */
  readonly gate: MatrixSource;
  /** `[intermediate, hidden]` */
  readonly up: MatrixSource;
  /** `[hidden, intermediate]` */
  readonly down: MatrixSource;
}

/** Rows and columns of the stored matrices of an expert: of a dense matrix, or of its two factors. */
export type ExpertShapes = Readonly<
  Record<"gate" | "up" | "down", Readonly<Partial<Record<"dense" | "left" | "right", readonly [number, number]>>>>
>;

/** The experts of one layer on a device, in their stored types. */
export interface Experts extends Disposable {
  readonly count: number;
  readonly hidden: number;
  readonly shapes: readonly ExpertShapes[];
}

/** A run of consecutive token rows that attend causally to each other and, before that, to every row of `prefix`. */
export interface Segment {
  /** First row. */
  start: number;
  /** Rows. */
  length: number;
  /** Position of the first row, for rotary embeddings; below 2^20, as are those of the rows after it. */
  position: number;
  /** Rows before the segment that every row of this segment attends to: a shared prompt. */
  prefix?: { start: number; length: number };
}

/** Where the heads' vectors lie in a tensor: element `token * row + head * stride + offset`, `width` of them. */
export interface Heads {
  readonly tensor: Tensor;
  /** Elements from one token to the next. */
  readonly row: number;
  /** Elements from one head to the next; 0 when all heads share one vector. */
  readonly stride: number;
  readonly offset: number;
  readonly width: number;
}

export interface AttentionOptions {
  /** Every row is in one of them. */
  readonly segments: readonly Segment[];
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads; query head h reads key head floor(h * keyHeads / heads). */
  readonly keyHeads: number;
  /** Factor on the scores. */
  readonly scale: number;
}

export interface RotaryOptions {
  /** Rows in none of them stay as they are; none is in two. */
  readonly segments: readonly Segment[];
  readonly heads: number;
  /** Elements from one head to the next. */
  readonly stride: number;
  /** Where in a head the rotated part begins. */
  readonly offset: number;
  /** Angles in radians a position step, one for each pair of elements: the rotated part is twice as wide. */
  readonly frequencies: Float64Array;
  /** Factor on cosine and sine (YaRN's attention factor; else 1). */
  readonly factor: number;
  /** Pairs are neighbours (2i, 2i + 1) when true, (i, i + width / 2) when false. */
  readonly interleaved: boolean;
}

/** Group-limited routing (DeepSeek-V2): only experts of the `keep` groups with the best single expert take part. */
export interface RouterGroups {
  /** Group of each expert of the layer. */
  readonly of: readonly number[];
  /** Groups that stay. */
  readonly keep: number;
}

/** The rule that turns router probabilities into routing weights. */
export interface RouterRule {
  readonly topK: number;
  /** Divide the weights of the chosen experts by their sum. */
  readonly renormalise: boolean;
  /** Factor on the weights. */
  readonly scale: number;
  readonly groups?: RouterGroups;
}

/** Experts of each token by falling probability; equal probabilities go to the lower index. */
export interface Ranking extends Disposable {
  /** Position of the expert in its layer, `[tokens, ranks]`, U32. */
  readonly experts: Tensor;
  /** Softmax over all experts of the layer, `[tokens, ranks]`. */
  readonly probabilities: Tensor;
}

/** What pricing sets of dropped experts needs to know of a layer. */
export interface FitnessInputs {
  readonly rule: RouterRule;
  /** The first `ranks` experts of each token: top-k and as many as the largest set drops; with groups all of them, ranked without regard to groups. */
  readonly ranking: Ranking;
  /** Softmax over all experts, `[tokens, experts]`. */
  readonly probabilities: Tensor;
  /** Inner products of the ranked experts' outputs, `[tokens, ranks, ranks]`. */
  readonly gram: Tensor;
}

/** In a table of experts: no expert here, the row of its output is zero. */
export const NO_EXPERT = 0xffffffff;

export interface Device extends Training, Disposable {
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
  /** Reads the experts of a layer and keeps them in their stored types; all have one hidden and one intermediate size, ranks may differ. */
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
  /** Softmax over each row. */
  softmax(x: Tensor): Tensor;
  /**
   * The `ranks` best experts of each token from probabilities `[tokens, experts]`, within the admitted groups if there are groups. Ranks that no expert
   * fills hold `NO_EXPERT` and 0; experts whose probability is not a number come last.
   */
  rank(probabilities: Tensor, ranks: number, groups?: RouterGroups): Ranking;
  /** Routing weights `[tokens, ranks]` of ranked experts that are all used: renormalised and scaled as the rule says; 0 where all probabilities are. */
  gates(ranking: Ranking, rule: RouterRule): Tensor;
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
  /** -log softmax(x · headᵀ)[target] of each row; the logits are never held for the whole vocabulary. NaN for a target beyond it. */
  crossEntropy(x: Tensor, head: Tensor, targets: Tensor): Tensor;
  /**
   * Squared Frobenius norm of the routed output's change for each set of dropped experts (positions in the layer), never below 0. A token that has no
   * expert left, or none with a probability above 1e-37, has an output of zero then.
   */
  fitness(inputs: FitnessInputs, sets: readonly (readonly number[])[]): Promise<Float64Array>;
  /** The `count` largest eigenvalues of a symmetric matrix of finite numbers `[n, n]`, falling, and their eigenvectors as rows `[count, n]`. */
  eigen(matrix: Tensor, count: number): Promise<{ values: Float64Array; vectors: Tensor }>;
}
