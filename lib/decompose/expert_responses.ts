/**
 * What the matrices of experts meet in calibration.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { type Device, type ExpertSource, type MatrixSource, NO_EXPERT, type Tensor } from "../device/device.ts";
import { batchTokens } from "../model/batch.ts";
import { routerProbabilities, routerRule } from "../model/decoder_layer.ts";
import type { Expert, Model, MoeLayer } from "../model/model.ts";
import { pause } from "../model/stage_options.ts";
import { denseMatrix } from "./dense_matrix.ts";
import type { Responses } from "./whitened_svd.ts";

/** Of each of an expert's matrices, over the tokens that are routed to it. */
export type ExpertResponses = Record<"gate" | "up" | "down", Responses>;

/** Bytes of Gram matrices and weights held at a time; one expert's may be more. */
const HELD = 2 ** 28;

export interface ResponsesOptions {
  signal?: AbortSignal;
  /** Bytes of Gram matrices and weights. @default 256 MiB */
  held?: number;
  /** Matrices of the same shapes whose outputs are summed, for the same inputs. @default the expert's own */
  seen?: (expert: Expert) => ExpertSource;
}

/**
 * Goes through experts of a layer, in their order, with the Gram matrices of what their matrices meet: of gate and up projection the layer's inputs, of
 * the down projection silu(gate x) * (up x), each token's row times half its routing weight (a common factor
 * does not matter) for the expert. An error in an expert's output is so counted as
 * it comes out of the layer.
 *
 * The kept inputs are read once for as many experts as fit in 256 MiB. What is handed out is given back when the next one is asked for.
 */
export async function* expertResponses(
  device: Device,
  model: Model,
  { index, block }: MoeLayer,
  trace: Trace,
  experts: readonly Expert[],
  { signal, held = HELD, seen }: ResponsesOptions = {},
): AsyncGenerator<{ expert: Expert; responses: ExpertResponses }> {
  const { config } = model, { inputs } = trace.layers.find((l) => l.layer === index)!, { hidden, tokens } = inputs;
  const most = batchTokens(config, config.moe.topK), { topK, ...rule } = routerRule(config, block.experts.map((e) => e.id));
  async function* chunks() {
    for (let start = 0; start < tokens; start += most) {
      await pause(signal);
      const count = Math.min(most, tokens - start), values = new Float32Array(count * hidden);
      await inputs.read(start, values);
      using x = device.tensor(values, [count, hidden]);
      yield { x, start, count };
    }
  }
  const listed = new Uint32Array(tokens * topK).fill(NO_EXPERT), weights = new Float32Array(tokens * topK);
  {
    using router = await device.load(block.router);
    for await (const { x, start } of chunks()) {
      using probabilities = routerProbabilities(device, { router, ids: [] }, x);
      using ranking = device.rank(probabilities, topK, rule.groups);
      using gates = device.gates(ranking, { topK, ...rule });
      listed.set(await device.readIndices(ranking.experts), start * topK);
      weights.set(await device.read(gates), start * topK);
    }
  }
  const smaller = Math.min(hidden, config.moe.intermediate),
    bytes = 4 * (3 * (seen ? 2 : 1) * hidden * config.moe.intermediate + 3 * smaller ** 2);
  const size = Math.max(1, Math.floor(held / bytes));
  for (let first = 0; first < experts.length; first += size) {
    using stack = new DisposableStack();
    const group: Meeting[] = [];
    for (const expert of experts.slice(first, first + size)) group.push(stack.use(await Meeting.of(device, expert, seen?.(expert))));
    for await (const { x, start, count } of chunks()) {
      for (const meeting of group) {
        const position = block.experts.indexOf(meeting.expert), rows: number[] = [], shares: number[] = [];
        for (let at = start * topK; at < (start + count) * topK; at++) {
          if (listed[at] === position) rows.push(Math.floor(at / topK) - start), shares.push(weights[at] / Math.abs(rule.scale || 1));
        }
        if (rows.length > 0) await meeting.add(x, rows, shares);
      }
    }
    for (const meeting of group) {
      meeting.release();
      yield { expert: meeting.expert, responses: meeting.responses };
      meeting[Symbol.dispose]();
    }
  }
}

/** One expert, and the sums over the tokens that it met. */
class Meeting implements Disposable {
  readonly #weights = new DisposableStack();
  readonly #sums = new DisposableStack();
  #matrices!: Record<"gate" | "up" | "down", Tensor>;
  #seen!: Record<"gate" | "up" | "down", Tensor>;
  responses!: ExpertResponses;

  private constructor(readonly device: Device, readonly expert: Expert) {}

  static async of(device: Device, expert: Expert, seen?: ExpertSource): Promise<Meeting> {
    const meeting = new Meeting(device, expert);
    try {
      const load = async (source: MatrixSource) =>
        meeting.#weights.use(await ("left" in source ? denseMatrix(device, source) : device.load(source)));
      const loadAll = async ({ gate, up, down }: ExpertSource) => ({ gate: await load(gate), up: await load(up), down: await load(down) });
      meeting.#matrices = await loadAll(expert);
      meeting.#seen = seen ? await loadAll(seen) : meeting.#matrices;
      const none = ({ shape }: Tensor): Responses => {
        const size = Math.min(...shape), gram = meeting.#sums.use(device.tensor(new Float32Array(size ** 2), [size, size]));
        return { gram, energy: 0, [Symbol.dispose]: () => gram[Symbol.dispose]() };
      };
      const { gate, up, down } = meeting.#matrices;
      meeting.responses = { gate: none(gate), up: none(up), down: none(down) };
      return meeting;
    } catch (error) {
      meeting[Symbol.dispose]();
      throw error;
    }
  }

  /** Adds tokens: rows of the layer's inputs, and their routing weights. */
  async add(x: Tensor, rows: number[], shares: number[]): Promise<void> {
    const { device, responses } = this, { gate, up, down } = this.#matrices, seen = this.#seen;
    using picked = device.tensor(Uint32Array.from(rows), [rows.length]);
    using mine = device.gather(x, picked);
    using opened = device.linear(mine, gate);
    using raised = device.linear(mine, up);
    using inner = device.swiglu(opened, raised);
    // There is no operation for rows times numbers, but one for rows times sigmoids: a half of each weight, which is at most 1, keeps them below 1.
    using share = device.tensor(Float32Array.from(shares, (w) => Math.log(Math.max(w, 1e-30) / (2 - w))), [rows.length, 1]);
    const weighed = (y: Tensor) => {
      const sum = device.tensor(new Float32Array(rows.length * y.shape[1]), y.shape);
      try {
        device.add(sum, y, share);
        return sum;
      } catch (error) {
        sum[Symbol.dispose]();
        throw error;
      }
    };
    using input = weighed(mine);
    using activation = weighed(inner);
    const tall = gate.shape[0] > gate.shape[1], deep = down.shape[0] > down.shape[1];
    const outputs = (own: Tensor, y: Tensor, other: Tensor) => tall ? undefined : own === other ? weighed(y) : device.linear(input, other);
    using openedShare = outputs(gate, opened, seen.gate);
    using raisedShare = outputs(up, raised, seen.up);
    using output = deep ? undefined : device.linear(activation, seen.down);
    await this.#extend(responses.gate, openedShare ?? input, input);
    await this.#extend(responses.up, raisedShare ?? input, input);
    await this.#extend(responses.down, output ?? activation, activation);
  }

  async #extend(into: Responses, y: Tensor, input: Tensor): Promise<void> {
    const { device } = this;
    using columns = device.transpose(y);
    using gram = device.linear(columns, columns);
    device.add(into.gram, gram);
    using squares = device.squares(input);
    into.energy = (await device.read(squares)).reduce((sum, value) => sum + value, into.energy);
  }

  /** The sums are complete: the weights are no longer needed. */
  release(): void {
    this.#weights.dispose();
  }

  [Symbol.dispose](): void {
    this.#weights.dispose();
    this.#sums.dispose();
  }
}
