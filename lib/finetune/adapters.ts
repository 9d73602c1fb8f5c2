/**
 * Adapters as plain data.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import { expect } from "../model/expect.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { adapterSites, type LinearSite, type Site, type Target } from "./adapter_sites.ts";

/**
 * What an adapter makes of its weight W `[out, in]`:
 *
 * - `lora` (Hu et al., 2021): W + alpha / rank · up · down, with down `[rank, in]` and up `[out, rank]`.
 * - `masked-lora`: the same, and then 0 again wherever W is 0. It is trained as `lora` is: the losses in its `history` are of the model without the mask, not
 *   of the one that comes back.
 * - `spp` ([arXiv 2405.16057](https://arxiv.org/abs/2405.16057)): W + alpha / rank · R(down) ⊙ up ⊙ W, which leaves zeros alone in training already. R repeats
 *   row i of down `[r, in]` for the i-th of r blocks of rows of W; up is `[out, 1]`. r is the greatest common divisor of rank and out. A row that is all 0
 *   stays so.
 */
export type AdapterKind = "lora" | "masked-lora" | "spp";

export const ADAPTER_KINDS: readonly AdapterKind[] = ["lora", "masked-lora", "spp"];

/** Corrections of a model's weights. A trained router is here as a whole. */
export interface Adapters {
  /** @default {"lora"} */
  kind?: AdapterKind;
  rank: number;
  alpha: number;
  /** Numbers by layer and place, such as "3/attention/q_proj/down" or "0/experts/gate/left/up": the matrices of a layer's experts one behind the other. */
  values: Map<string, Float32Array<ArrayBuffer>>;
}

/** Sizes of the matrices that make up the adapter of a site, by the end of their name. */
export function adapterShapes(
  site: Site,
  { kind, rank }: Pick<Adapters, "kind" | "rank">,
): Record<string, readonly (readonly [number, number])[]> {
  const width = kind === "spp" ? 1 : rank, height = (rows: number) => kind === "spp" ? divisor(rank, rows) : rank;
  switch (site.kind) {
    case "linear":
      return {
        down: [[height(rowsOf(site)), site.columns]],
        ...Object.fromEntries(site.pieces.map(({ rows }, i) => [site.pieces.length > 1 ? `up.${i}` : "up", [[rows, width]] as const])),
      };
    case "experts":
      return {
        down: site.shapes.map(([rows, columns]) => rows > 0 ? [height(rows), columns] : [0, 0]),
        up: site.shapes.map(([rows]) => rows > 0 ? [rows, width] : [0, 0]),
      };
    case "router":
      return { weight: [site.shape] };
  }
}

/** Rows of a site's matrix, in all its pieces. */
export function rowsOf({ pieces }: LinearSite): number {
  return pieces.reduce((sum, { rows }) => sum + rows, 0);
}

/** The greatest common divisor. */
function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/** @throws {TypeError} If these are no adapters. */
export function expectAdapters(adapters: Adapters, purpose: string): void {
  const { kind = "lora", rank, alpha, values } = adapters ?? {};
  const counts = Number.isSafeInteger(rank) && rank >= 1 && Number.isFinite(alpha);
  expect(ADAPTER_KINDS.includes(kind), purpose, `adapters of a "kind" among ${ADAPTER_KINDS.join(", ")}`, kind);
  const holds = counts && values instanceof Map && [...values.values()].every((numbers) => numbers instanceof Float32Array);
  expect(holds, purpose, 'adapters from finetune(), with "rank", "alpha" and "values"', adapters);
}

/**
 * The matrices of a site's adapter, by the ends of their names; undefined where it has none.
 *
 * @throws {RangeError} If one is absent, or has another size than the model needs.
 */
export function adapterOf(
  adapters: Adapters,
  layer: DecoderLayer,
  site: Site,
  purpose: string,
): Record<string, Float32Array<ArrayBuffer>> | undefined {
  const name = `${layer.index}/${site.key}`, shapes = Object.entries(adapterShapes(site, adapters)), { values } = adapters;
  if (!shapes.some(([end]) => values.has(`${name}/${end}`))) return undefined;
  return Object.fromEntries(shapes.map(([end, matrices]) => {
    const numbers = values.get(`${name}/${end}`), wanted = sizeOf(matrices);
    if (numbers?.length === wanted) return [end, numbers];
    throw new RangeError(`Cannot ${purpose} "${name}/${end}": it has ${numbers?.length ?? 0} numbers, the model needs ${wanted}`);
  }));
}

/** Elements of all matrices. */
export function sizeOf(shapes: readonly (readonly [number, number])[]): number {
  return shapes.reduce((n, [rows, columns]) => n + rows * columns, 0);
}

/** Rows and columns of what an adapter corrects. */
function matricesOf(site: Site): (readonly [number, number])[] {
  if (site.kind === "linear") return [[rowsOf(site), site.columns]];
  return site.kind === "experts" ? [...site.shapes] : [];
}

/**
 * Adapters that change nothing yet: `down` uniform within 1 / √in as PEFT draws it, `up` zero. Routers are left out: they begin as they are.
 *
 * @param targets What to adapt.
 * @throws {RangeError} If LoRA's rank is above that of every matrix.
 */
export function createAdapters(
  model: Model,
  { kind = "lora", rank, alpha, targets, seed }: Pick<Adapters, "kind" | "rank" | "alpha"> & { targets: readonly Target[]; seed: number },
): Adapters {
  const values: Adapters["values"] = new Map();
  const sites = model.layers.map((layer) => ({ layer, sites: adapterSites(model, layer).filter((s) => targets.includes(s.target)) }));
  const most = sites.flatMap(({ sites }) => sites.flatMap(matricesOf)).reduce((most, shape) => Math.max(most, Math.min(...shape)), 0);
  if (kind !== "spp" && most > 0 && rank > most) {
    throw new RangeError(`Cannot fine-tune: "rank" must be at most ${most}, that of the matrices, received ${rank}`);
  }
  for (const { layer, sites: places } of sites) {
    for (const site of places) {
      if (site.kind === "router") continue;
      for (const [end, shapes] of Object.entries(adapterShapes(site, { kind, rank }))) {
        const name = `${layer.index}/${site.key}/${end}`, matrix = new Float32Array(sizeOf(shapes));
        if (end === "down") fill(matrix, shapes, random(seed, `adapter ${name}`).below);
        values.set(name, matrix);
      }
    }
  }
  return { kind, rank, alpha, values };
}

function fill(into: Float32Array, shapes: readonly (readonly [number, number])[], below: (count: number) => number): void {
  let at = 0;
  for (const [rows, columns] of shapes) {
    const bound = 1 / Math.sqrt(columns), end = at + rows * columns;
    for (; at < end; at++) into[at] = (below(2 ** 24) / 2 ** 23 - 1) * bound;
  }
}
