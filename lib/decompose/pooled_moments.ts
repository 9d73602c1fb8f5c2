/**
 * Mean and covariance of inputs, pooled over groups of sequences.
 *
 * @module
 */

import type { Device } from "../device/device.ts";

/** What is known of the inputs of a linear. */
export interface InputMoments {
  /** Those of groups that count. */
  tokens: number;
  /** With at least two tokens each. */
  groups: number;
  /** Mean of the groups' means, `[width]`. */
  mean: Float64Array;
  /**
   * The covariance C, the mean of the groups' sample covariances: `[width, width]`, or rows R `[count, width]` with Rᵀ R = C where fewer of them than `width`
   * say it all. Rows keep the digits that tell which directions no token went in.
   */
  covariance: { matrix: Float64Array } | { rows: Float64Array[] };
}

/** Bytes for each number of a covariance: the pooled one and that of the open group, each in float64 with as many rows in front of it. */
export const MOMENT_BYTES: number = 4 * Float64Array.BYTES_PER_ELEMENT;

/**
 * Takes in tokens batch by batch and merges them as Chan, Golub and LeVeque do (1979): with counts a and b, means μ_a and μ_b and δ = μ_b - μ_a, the scatter
 * of both is M_a + M_b + δ δᵀ a b / (a + b). Scatters are kept as rows, each merge adding one, in float64; once there are more rows than columns they are
 * multiplied out, on the device in float32, after centring: what cancels has cancelled by then. Between batches it holds at most
 * {@linkcode MOMENT_BYTES} · width² bytes.
 */
export class PooledMoments {
  readonly #pooled: Scatter;
  #open: { group: number; count: number; mean: Float64Array; scatter: Scatter } | undefined;
  #tokens = 0;
  #groups = 0;
  readonly #means: Float64Array;

  /** @param centred Else moments about 0: the covariance is the mean of the groups' Σ x xᵀ / n. */
  constructor(readonly device: Device, readonly width: number, readonly centred: boolean) {
    this.#pooled = new Scatter(device, width);
    this.#means = new Float64Array(width);
  }

  /**
   * Adds rows `first` to `first + count` of values `[…, wide]`; those of a group come one after the other.
   *
   * @param where Begins a message, such as "factor layer 3, attention/q_proj".
   * @throws {RangeError} If a number is not finite.
   */
  async add(values: Float32Array, wide: number, first: number, count: number, group: number, where: string): Promise<void> {
    if (this.#open?.group !== group) await this.#close();
    if (count === 0) return;
    const { device, width, centred } = this, mean = new Float64Array(width), open = this.#open;
    const at = (row: number) => (first + row) * wide;
    for (let i = 0; i < count; i++) for (let j = 0; j < width; j++) mean[j] += values[at(i) + j] / count;
    if (!mean.every(Number.isFinite)) throw new RangeError(`Cannot ${where}: an input is not finite`);
    const { scatter } = this.#open ??= { group, count: 0, mean: new Float64Array(width), scatter: new Scatter(device, width) };
    const origin = centred ? mean : new Float64Array(width);
    if (count > width) {
      const rows = new Float32Array(count * width);
      for (let i = 0; i < count; i++) for (let j = 0; j < width; j++) rows[i * width + j] = values[at(i) + j] - origin[j];
      await scatter.multiply(rows);
    } else {
      await scatter.append(Array.from({ length: count }, (_, i) => Float64Array.from(origin, (center, j) => values[at(i) + j] - center)));
    }
    const before = open?.count ?? 0, all = before + count, shift = mean.map((value, j) => value - this.#open!.mean[j]);
    if (before > 0 && centred) await scatter.append([shift.map((value) => value * Math.sqrt(before * count / all))]);
    this.#open.mean = this.#open.mean.map((value, j) => value + shift[j] * count / all);
    this.#open.count = all;
  }

  /** Undefined where no group has two tokens. What it gives is no longer held here: nothing can be added. */
  async finish(): Promise<InputMoments | undefined> {
    await this.#close();
    if (this.#groups === 0) return undefined;
    return {
      ...{ tokens: this.#tokens, groups: this.#groups, mean: this.#means.map((value) => value / this.#groups) },
      covariance: await this.#pooled.result(1 / this.#groups),
    };
  }

  async #close(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    if (!open || open.count < 2) return;
    this.#groups++, this.#tokens += open.count;
    open.mean.forEach((value, j) => this.#means[j] += value);
    await this.#pooled.absorb(open.scatter, 1 / (this.centred ? open.count - 1 : open.count));
  }
}

/** Σ r rᵀ over rows r: the rows themselves, as long as there are no more of them than columns. */
class Scatter {
  #rows: Float64Array[] = [];
  #matrix: Float64Array | undefined;

  constructor(readonly device: Device, readonly width: number) {}

  async append(rows: readonly Float64Array[]): Promise<void> {
    this.#rows.push(...rows);
    if (this.#rows.length > this.width) await this.#multiplyOut();
  }

  /** Adds Xᵀ X, X `[rows, width]`. */
  async multiply(values: Float32Array): Promise<void> {
    const { device, width } = this;
    using x = device.tensor(values, [values.length / width, width]);
    using product = device.vjp.linearWeight(x, x);
    const sums = await device.read(product);
    if (!this.#matrix) this.#matrix = Float64Array.from(sums);
    else addTo(this.#matrix, sums);
  }

  /** Adds another one times a factor; it is not to be used any more. */
  async absorb(other: Scatter, factor: number): Promise<void> {
    if (other.#matrix) {
      scale(other.#matrix, factor);
      if (this.#matrix) addTo(this.#matrix, other.#matrix);
      else this.#matrix = other.#matrix;
    }
    for (const row of other.#rows) scale(row, Math.sqrt(factor));
    await this.append(other.#rows);
  }

  /** Times a factor; it is not to be used any more. */
  async result(factor: number): Promise<InputMoments["covariance"]> {
    if (this.#matrix && this.#rows.length > 0) await this.#multiplyOut();
    const rows = this.#rows, matrix = this.#matrix;
    this.#rows = [], this.#matrix = undefined;
    if (!matrix) {
      for (const row of rows) scale(row, Math.sqrt(factor));
      return { rows };
    }
    scale(matrix, factor);
    return { matrix };
  }

  async #multiplyOut(): Promise<void> {
    const rows = this.#rows, values = new Float32Array(rows.length * this.width);
    this.#rows = [];
    rows.forEach((row, i) => values.set(row, i * this.width));
    await this.multiply(values);
  }
}

function scale(values: Float64Array, factor: number): void {
  for (let i = 0; i < values.length; i++) values[i] *= factor;
}

function addTo(sums: Float64Array, values: Float32Array | Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i] += values[i];
}
