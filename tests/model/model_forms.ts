/** Models of other forms than checkpoints have: made by hand, without any method that finds out what is best to leave. */

import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { selectColumns } from "../../lib/model/column_selection.ts";
import type { DecoderLayer, Expert, FeedForward, Model } from "../../lib/model/model.ts";
import { selectRows } from "../../lib/model/row_selection.ts";
import { noise } from "../devices.ts";

/** What of a layer goes: places of key/value groups (or heads of latent attention), channels of networks. */
interface Lost {
  group(layer: number, group: number, groups: number): boolean;
  channel(layer: number, network: number, channel: number): boolean;
}

/** Other heads go in every layer, one stays at least; experts lose different numbers of channels, -1 is the network that every token meets. */
export const LOST: Lost = {
  group: (layer, group, groups) => groups > 1 && layer % 3 < 2 && group === layer % groups,
  channel: (_, network, channel) => (channel + network + 7) % (3 + (network + 1) % 4) === 0,
};

/** For each of `count` heads or groups that stay, all of its `width` places. */
function placesOf(count: number, width: number, stays: (i: number) => boolean): number[] {
  return Array.from({ length: count * width }, (_, i) => i).filter((i) => stays(Math.floor(i / width)));
}

type Narrowed = (source: TensorSource, stays: readonly number[], side: "rows" | "columns") => TensorSource;

/** Every place that loses something, changed by `narrow`: it is given what stays. */
function narrowed(model: Model, narrow: Narrowed, { group, channel }: Lost): Model {
  const { attention: shape } = model.config;
  return {
    ...model,
    layers: model.layers.map((layer): DecoderLayer => {
      const { index, block } = layer, groups = shape.kind === "grouped" ? shape.keyHeads : shape.heads;
      const stays = (g: number) => !group(index, g, groups), perGroup = shape.heads / groups;
      const places = (width: number) => placesOf(groups, width, stays);
      const cut: Record<string, [places: number[], side: "rows" | "columns"]> = shape.kind === "grouped"
        ? {
          q_proj: [places(perGroup * shape.width), "rows"],
          k_proj: [places(shape.width), "rows"],
          v_proj: [places(shape.width), "rows"],
          o_proj: [places(perGroup * shape.width), "columns"],
          // A gain over all heads at once: the norm is then that of the heads that stay, so that `silenced` is another model.
          ...(shape.norm === "whole" ? { q_norm: [places(perGroup * shape.width), "rows"], k_norm: [places(shape.width), "rows"] } : {}),
        }
        : {
          [shape.queryRank === null ? "q_proj" : "q_b_proj"]: [places(shape.plain + shape.rotated), "rows"],
          kv_b_proj: [places(shape.plain + shape.value), "rows"],
          o_proj: [places(shape.value), "columns"],
        };
      const attention = Object.entries(layer.attention).map(([name, source]) => {
        const [places, side] = cut[name.split(".")[0]] ?? [];
        const stays = !places || (side === "columns" && name.endsWith(".bias"));
        return [name, stays ? source : narrow(source as TensorSource, places, side)] as const;
      });
      const network = <N extends FeedForward | Expert>(of: N, at: number): N => {
        const kept = placesOf((of.gate as TensorSource).shape[0], 1, (c) => !channel(index, at, c));
        const side = (source: MatrixSource, of: "rows" | "columns") => narrow(source as TensorSource, kept, of);
        return { ...of, gate: side(of.gate, "rows"), up: side(of.up, "rows"), down: side(of.down, "columns") };
      };
      return {
        ...layer,
        attention: Object.fromEntries(attention),
        block: block.kind === "dense" ? network(block, -1) : {
          ...block,
          experts: block.experts.map((expert) => network(expert, expert.id)),
          ...(block.shared ? { shared: network(block.shared, -1) } : {}),
        },
      };
    }),
  };
}

/** The model without what is lost. */
export function sliced(model: Model, lost: Lost = LOST): Model {
  return narrowed(model, (source, stays, side) => side === "rows" ? selectRows(source, stays) : selectColumns(source, stays), lost);
}

/** The whole model with nothing but zeros in the columns that what is lost is multiplied with: it gives what the sliced one gives. */
export function silenced(model: Model, lost: Lost = LOST): Model {
  return narrowed(model, (source, stays, side) => side === "rows" ? source : withZeros(source, new Set(stays)), lost);
}

function withZeros(source: TensorSource, stays: ReadonlySet<number>): TensorSource {
  const columns = source.shape[1];
  return {
    dtype: "F32",
    shape: source.shape,
    read: async (into) => {
      const values = await readWide(source);
      into.set(new Uint8Array(values.map((v, i) => stays.has(i % columns) ? v : 0).buffer));
    },
  };
}

/** Rank of a matrix, null where it stays dense. */
function rankOf(layer: number, place: number): number | null {
  return (layer + place) % 5 === 4 ? null : 6 + (layer + 2 * place) % 7;
}

const ATTENTION = ["q_proj", "k_proj", "o_proj", "kv_a_proj_with_mqa", "kv_b_proj"];

/** What a matrix becomes. */
type Become = (source: TensorSource, rank: number | null, seed: number) => Promise<MatrixSource> | MatrixSource;

/**
 * Attention projections but `v_proj`, and the experts' matrices, are products of random factors of many ranks, some stay dense; all have random biases but
 * some of the dense ones.
 */
async function replaced(model: Model, become: Become): Promise<Model> {
  const bias = (rows: number, seed: number): TensorSource => ({
    ...heldSource(noise(rows, seed).map((v) => v / 20), [rows]),
    origin: model.embedding.dtype,
  });
  const layers = await Promise.all(model.layers.map(async (layer): Promise<DecoderLayer> => {
    const attention: Record<string, MatrixSource> = { ...layer.attention }, { block, index } = layer;
    for (const [at, name] of ATTENTION.entries()) {
      const weight = layer.attention[`${name}.weight`] as TensorSource | undefined, rank = rankOf(index, at);
      if (!weight || rank === null) continue;
      attention[`${name}.weight`] = await become(weight, rank, 1000 * index + at);
      attention[`${name}.bias`] = bias(weight.shape[0], 1000 * index + 10 + at);
    }
    if (block.kind === "dense") return { ...layer, attention };
    const experts = await Promise.all(block.experts.map(async (expert): Promise<Expert> => {
      const seed = 1000 * index + 20 * expert.id + 100, { id, gate, up, down } = expert;
      const of = (matrix: MatrixSource, kind: number) => become(matrix as TensorSource, rankOf(index + kind, id), seed + kind);
      const rows = (matrix: MatrixSource) => (matrix as TensorSource).shape[0];
      const biases = {
        gate: bias(rows(gate), seed + 4),
        up: bias(rows(up), seed + 5),
        ...(id % 2 ? { down: bias(rows(down), seed + 6) } : {}),
      };
      return { id, gate: await of(gate, 0), up: await of(up, 1), down: await of(down, 2), ...(id % 4 === 3 ? {} : { biases }) };
    }));
    return { ...layer, attention, block: { ...block, experts } };
  }));
  return { ...model, layers };
}

function randomFactors({ shape: [rows, columns], origin, dtype }: TensorSource, rank: number, seed: number) {
  const factor = (shape: number[], seed: number, size: number): TensorSource => ({
    ...heldSource(noise(shape[0] * shape[1], seed).map((v) => v * size), shape),
    origin: origin ?? dtype,
  });
  return { left: factor([rows, rank], seed + 300, 1), right: factor([rank, columns], seed + 600, 0.1) };
}

/** See `replaced`. */
export function factored(model: Model): Promise<Model> {
  return replaced(model, (source, rank, seed) => rank === null ? source : randomFactors(source, rank, seed));
}

/** The same with every product of factors multiplied out. */
export function multipliedOut(model: Model): Promise<Model> {
  return replaced(model, async (source, rank, seed) => {
    if (rank === null) return source;
    const { left, right } = randomFactors(source, rank, seed), [l, r] = [await readWide(left), await readWide(right)];
    const [rows, columns] = source.shape, values = new Float32Array(rows * columns);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += l[i * rank + k] * r[k * columns + j];
        values[i * columns + j] = sum;
      }
    }
    return heldSource(values, source.shape);
  });
}
