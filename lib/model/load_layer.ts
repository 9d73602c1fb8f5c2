/**
 * Brings the weights of one decoder layer to a device.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { Device, Experts, ExpertSource, MatrixSource, Tensor, TensorSource } from "../device/device.ts";
import { type BasedSource, summedMatrix } from "./based_source.ts";
import { loadWide } from "./load_wide.ts";
import type { DecoderLayer, FeedForward, MoeBlock } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";
import { selectRows } from "./row_selection.ts";

export interface LoadedFeedForward {
  gate: Tensor;
  up: Tensor;
  down: Tensor;
}

export interface LoadedMoe extends Disposable {
  kind: "moe";
  /** Ids in the original model, of what the router chooses among. */
  ids: readonly number[];
  router: Tensor;
  experts: Experts;
  /** `[ids, hidden]`: what each constant expert gives, zeros for the others. */
  constants?: Tensor;
  skip?: number;
  shared?: LoadedFeedForward & { scale?: Tensor };
}

export interface LoadedAttention extends Disposable {
  norm: Tensor;
  /**
   * By name below `self_attn`; vectors are widened, factors are named as `q_proj.left.weight` and `q_proj.right.weight`, and the joint projection of latent
   * attention, or the left factor of it, is split in its two parts.
   */
  tensors: Record<string, Tensor>;
}

export interface LoadedLayer extends Disposable {
  attention: LoadedAttention;
  outputNorm: Tensor;
  block: LoadedMoe | (LoadedFeedForward & { kind: "dense" });
}

/** Reads a whole layer. Dispose it before the next one is read, and one layer at a time is on the device. */
export async function loadLayer(device: Device, config: ModelConfig, layer: DecoderLayer): Promise<LoadedLayer> {
  using stack = new DisposableStack();
  const attention = stack.use(await loadAttention(device, config, layer));
  const outputNorm = stack.use(await loadWide(device, layer.outputNorm));
  const { block } = layer;
  const loaded = block.kind === "moe"
    ? stack.use(await loadMoe(device, block))
    : { kind: "dense" as const, ...await feedForward(device, block, stack) };
  return owned({ attention, outputNorm, block: loaded }, stack);
}

export async function loadAttention(device: Device, config: ModelConfig, layer: DecoderLayer): Promise<LoadedAttention> {
  using stack = new DisposableStack();
  const norm = stack.use(await loadWide(device, layer.inputNorm)), tensors: Record<string, Tensor> = {};
  for (const [name, matrix] of Object.entries(layer.attention)) {
    for (const [factor, source] of Object.entries("left" in matrix ? matrix : { "": matrix })) {
      const place = factor === "" ? name : name.replace(/weight$/, `${factor}.weight`);
      if (config.attention.kind === "latent" && name.startsWith("kv_a_proj_with_mqa") && factor !== "right") {
        const { rank, rotated } = config.attention, rest = place.slice("kv_a_proj_with_mqa".length);
        for (const [part, first, count] of [["latent", 0, rank], ["rotated", rank, rotated]] as const) {
          const rows = Array.from({ length: count }, (_, i) => first + i);
          tensors[part + rest] = stack.use(await load(device, selectRows(source, rows)));
        }
      } else tensors[place] = stack.use(await load(device, source));
    }
  }
  return owned({ norm, tensors }, stack);
}

export async function loadMoe(device: Device, block: MoeBlock): Promise<LoadedMoe> {
  using stack = new DisposableStack();
  const router = stack.use(await device.load(block.router));
  const experts = stack.use(await device.loadExperts(await summedExperts(device, block)));
  const ids = [...block.experts.map((e) => e.id), ...block.constants?.ids ?? []];
  const constants = block.constants && stack.use(await loadConstants(device, block.constants.outputs, ids.length));
  const shared = block.shared && {
    ...await feedForward(device, block.shared, stack),
    ...(block.shared.scale ? { scale: stack.use(await device.load(block.shared.scale)) } : {}),
  };
  return owned({ kind: "moe" as const, ids, router, experts, constants, skip: block.skip, shared }, stack);
}

/** The experts with each matrix that is a base and a difference added up; whoever shares a matrix shares the sum. */
async function summedExperts(device: Device, { experts }: MoeBlock): Promise<ExpertSource[]> {
  const sums = new Map<MatrixSource, MatrixSource>();
  const summed = async (matrix: MatrixSource) => {
    if (!("terms" in matrix)) return matrix;
    const sum = sums.get(matrix) ?? await summedMatrix(device, matrix as BasedSource);
    sums.set(matrix, sum);
    return sum;
  };
  const list: ExpertSource[] = [];
  for (const { gate, up, down, biases } of experts) {
    list.push({ gate: await summed(gate), up: await summed(up), down: await summed(down), biases });
  }
  return list;
}

/** Positions of constant experts come last. */
async function loadConstants(device: Device, outputs: TensorSource, choices: number): Promise<Tensor> {
  const [count, hidden] = outputs.shape, rows = new Float32Array(choices * hidden);
  rows.set(await readWide(outputs), (choices - count) * hidden);
  return device.tensor(rows, [choices, hidden]);
}

async function feedForward(device: Device, { gate, up, down }: FeedForward, stack: DisposableStack): Promise<LoadedFeedForward> {
  return { gate: stack.use(await device.load(gate)), up: stack.use(await device.load(up)), down: stack.use(await device.load(down)) };
}

/** Matrices stay in their stored type; vectors are widened, for gains and biases are used as they are. */
function load(device: Device, source: TensorSource): Promise<Tensor> {
  return source.shape.length === 1 ? loadWide(device, source) : device.load(source);
}

/** Hands everything on the stack over to the one who holds `parts`. */
function owned<T>(parts: T, stack: DisposableStack): T & Disposable {
  const held = stack.move();
  return Object.assign(parts as T & object, { [Symbol.dispose]: () => held[Symbol.dispose]() });
}
