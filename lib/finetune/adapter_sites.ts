/**
 * Where in a model adapters can sit.
 *
 * @module
 */

import type { MatrixSource, Tensor } from "../device/device.ts";
import type { ExpertPart } from "../device/vjp.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { KINDS, ROLES } from "./expert_parts.ts";

/**
 * Groups of weights: `attention` projections, matrices of routed `experts` (both factors of low-rank ones), of `shared` experts, of `dense` layers, and
 * the `router`, which is trained whole.
 */
export type Target = "attention" | "experts" | "shared" | "dense" | "router";

export const TARGETS: readonly Target[] = ["attention", "experts", "shared", "dense", "router"];

/** A matrix `[out, in]` that every token meets. On the device it may lie in pieces, one below the other. */
export interface LinearSite {
  readonly kind: "linear";
  readonly target: Target;
  /** Name among the sites of its layer. */
  readonly key: string;
  readonly columns: number;
  readonly pieces: readonly { readonly rows: number; readonly find: (weights: LoadedLayer) => Tensor }[];
}

/** The matrices of one part of all experts of a layer. */
export interface ExpertSite {
  readonly kind: "experts";
  readonly target: "experts";
  readonly key: string;
  readonly part: Omit<ExpertPart, "experts">;
  /** Rows and columns of each expert's matrix; [0, 0] where it has none. */
  readonly shapes: readonly (readonly [number, number])[];
}

export interface RouterSite {
  readonly kind: "router";
  readonly target: "router";
  readonly key: "router";
  readonly shape: readonly [number, number];
}

export type Site = LinearSite | ExpertSite | RouterSite;

/** All sites of a layer, in a fixed order. */
export function adapterSites({ config }: Pick<Model, "config">, { attention, block }: DecoderLayer): Site[] {
  const sites: Site[] = [];
  const add = (target: Target, key: string, columns: number, ...pieces: LinearSite["pieces"]) =>
    sites.push({ kind: "linear", target, key, columns, pieces });
  const tensor = (of: string) => (weights: LoadedLayer) => weights.attention.tensors[of];
  for (const [name, matrix] of Object.entries(attention)) {
    const module = name.replace(/\.weight$/, "");
    const factors = "left" in matrix ? [["right", matrix.right], ["left", matrix.left]] as const : [["", matrix]] as const;
    for (const [factor, { shape: [rows, columns] }] of factors) {
      if (columns === undefined) continue; // a gain or a bias
      const key = `attention/${module}${factor && `/${factor}`}`, weight = factor === "" ? "weight" : `${factor}.weight`;
      if (config.attention.kind === "latent" && module === "kv_a_proj_with_mqa" && factor !== "right") {
        const { rank, rotated } = config.attention, parts = [["latent", rank], ["rotated", rotated]] as const;
        add("attention", key, columns, ...parts.map(([part, rows]) => ({ rows, find: tensor(`${part}.${weight}`) })));
      } else add("attention", key, columns, { rows, find: tensor(`${module}.${weight}`) });
    }
  }
  if (block.kind === "dense") {
    for (const kind of KINDS) {
      const [rows, columns] = block[kind].shape;
      add("dense", `dense/${kind}`, columns, { rows, find: ({ block }) => (block as Extract<typeof block, { kind: "dense" }>)[kind] });
    }
    return sites;
  }
  for (const kind of KINDS) {
    for (const role of ROLES) {
      const shapes = block.experts.map((expert) => shapeOf(expert[kind], role));
      if (shapes.some(([rows]) => rows > 0)) {
        sites.push({ kind: "experts", target: "experts", key: `experts/${kind}/${role}`, part: { kind, role }, shapes });
      }
    }
  }
  if (block.shared) {
    for (const kind of KINDS) {
      const [rows, columns] = block.shared[kind].shape;
      add("shared", `shared/${kind}`, columns, {
        rows,
        find: ({ block }) => (block as Extract<typeof block, { kind: "moe" }>).shared![kind],
      });
    }
  }
  const [experts, hidden] = block.router.shape;
  sites.push({ kind: "router", target: "router", key: "router", shape: [experts, hidden] });
  return sites;
}

function shapeOf(matrix: MatrixSource, role: ExpertPart["role"]): readonly [number, number] {
  const source = "left" in matrix ? role === "dense" ? undefined : matrix[role] : role === "dense" ? matrix : undefined;
  return source ? [source.shape[0], source.shape[1]] : [0, 0];
}
