/**
 * The matrices of a decoder layer that can be made sparse.
 *
 * @module
 */

import type { ExpertSource, MatrixSource, TensorSource } from "../device/device.ts";
import { expectOwnExperts } from "../model/expect_stage.ts";
import { type DecoderLayer, type Model, moeLayers } from "../model/model.ts";

/** Which linears: all of a layer, or those of its routed experts. */
export type Scope = "all" | "experts";

/** A matrix `[out, in]` that multiplies activations. */
export interface Linear {
  /**
   * Within its layer, such as "attention/q_proj", "dense/gate", "shared/up" or "experts/3/down" (the expert's id). The factors of a low-rank matrix are
   * linears of their own: "experts/3/down/right", which meets the matrix's input, and "experts/3/down/left", which meets what the right one gives.
   */
  readonly name: string;
  readonly weight: TensorSource;
}

/** Linears of a layer: attention projections, dense network, shared and routed experts; not its router, gates, norms and biases. */
export function linearsOf(layer: DecoderLayer, scope: Scope = "all"): Linear[] {
  const linears: Linear[] = [];
  mapLinears(layer, (linear) => {
    if (scope === "all" || linear.name.startsWith("experts/")) linears.push(linear);
    return linear.weight;
  });
  return linears;
}

/** The layer with each linear's weight changed; one that several experts share is changed once, under the name of the first, and shared again. */
export function mapLinears(layer: DecoderLayer, change: (linear: Linear) => TensorSource): DecoderLayer {
  const changed = new Map<TensorSource, TensorSource>();
  const once = (name: string, weight: TensorSource): TensorSource => {
    const made = changed.get(weight) ?? change({ name, weight });
    changed.set(weight, made);
    return made;
  };
  const matrix = <M extends MatrixSource>(name: string, source: M): M => {
    if (!("left" in source)) return once(name, source) as M;
    const right = once(`${name}/right`, source.right);
    return { left: once(`${name}/left`, source.left), right } as MatrixSource as M;
  };
  const network = <N extends ExpertSource>(name: string, network: N): N => ({
    ...network,
    gate: matrix(`${name}/gate`, network.gate),
    up: matrix(`${name}/up`, network.up),
    down: matrix(`${name}/down`, network.down),
  });
  const attention = Object.entries(layer.attention).map(([name, weight]): [string, MatrixSource] =>
    "left" in weight || weight.shape.length === 2 ? [name, matrix(attentionName(name), weight)] : [name, weight]
  );
  const { block } = layer;
  return {
    ...layer,
    attention: Object.fromEntries(attention),
    block: block.kind === "dense" ? network("dense", block) : {
      ...block,
      ...(block.shared ? { shared: network("shared", block.shared) } : {}),
      experts: block.experts.map((expert) => network(`experts/${expert.id}`, expert)),
    },
  };
}

/** Name of an attention projection or of a factor of one, from that of its weight below `self_attn`. */
export function attentionName(weight: string): string {
  return `attention/${weight.replace(/\.weight$/, "").replace(".", "/")}`;
}

/** @throws {Error} If experts are constants or skipped, or their matrices differences from a shared one: zeros of a difference are none of the matrix. */
export function expectWholeMatrices(model: Pick<Model, "layers">, purpose: string): void {
  expectOwnExperts(model, purpose);
  for (const { index, block } of moeLayers(model)) {
    const based = block.experts.find(({ gate, up, down }) => [gate, up, down].some((matrix) => "terms" in matrix));
    if (!based) continue;
    throw new Error(
      `Cannot ${purpose}: expert ${based.id} of layer ${index} is a difference from a shared one; do this before deltaExperts()`,
    );
  }
}
