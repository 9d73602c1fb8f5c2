/**
 * What operations of a device take and give.
 *
 * @module
 */

/** Element types that checkpoints use, by safetensors' names. All arithmetic is in float32. */
export type DType = "F32" | "BF16" | "F16";

/** Bytes of one element of each type. */
export const BYTES: Readonly<Record<DType, number>> = { F32: 4, BF16: 2, F16: 2 };

/** A row-major array on a device. Its memory is given back when it is disposed, never before and never later. */
export interface Tensor extends Disposable {
  readonly shape: readonly number[];
  readonly dtype: DType | "U32";
}

/** Some bytes of a file. */
export interface FileRange {
  /** Where the file lies, and the way to fetch its bytes before they are read, if there is one. */
  readonly files: { prefetch?(path: string, start: number, bytes: number): Promise<void> };
  readonly path: string;
  readonly start: number;
  readonly bytes: number;
}

/** Somewhere a weight can be read from, such as a byte range of a checkpoint file. */
export interface TensorSource {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Type of the stored weight that this one was worked out from, if it was: what it is saved in. */
  readonly origin?: DType;
  /** Where in files the bytes lie that it is read or worked out from, as far as that is known. */
  readonly ranges?: readonly FileRange[];
  /** Fills `into`, exactly as long as the tensor, with its little-endian bytes. */
  read(into: Uint8Array): Promise<void>;
}

/** A weight matrix `[out, in]`, or the product of two: `left [out, rank] · right [rank, in]`. */
export type MatrixSource = TensorSource | { readonly left: TensorSource; readonly right: TensorSource };

/** The three matrices of a SwiGLU expert: `down · (silu(gate · x) * (up · x))`, each product with a bias where there is one. */
export interface ExpertSource {
  /** `[intermediate, hidden]` */
  readonly gate: MatrixSource;
  /** `[intermediate, hidden]` */
  readonly up: MatrixSource;
  /** `[hidden, intermediate]` */
  readonly down: MatrixSource;
  /** As long as the matrix of that name has rows. */
  readonly biases?: Readonly<Partial<Record<"gate" | "up" | "down", TensorSource>>>;
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
  /** Of each product where some expert has one: `[count, rows of the tallest matrix]`, F32, zeros for the others. */
  readonly biases: Readonly<Partial<Record<"gate" | "up" | "down", Tensor>>>;
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
  /**
   * Inner products of the ranked experts' outputs with a vector R of the token, `[tokens, ranks]`: what the output already lacks. The change is then that
   * of ‖R + F(x) - F(x; S)‖² against ‖R‖², which can be negative.
   */
  readonly along?: Tensor;
  /** The ranking may be shorter: who prices sets makes sure that each leaves a token topK of its ranked experts, or all that it has. */
  readonly partial?: boolean;
}

/** In a table of experts: no expert here, the row of its output is zero. */
export const NO_EXPERT = 0xffffffff;
