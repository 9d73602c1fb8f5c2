/**
 * The matrices of a decoder layer that can be made sparse.
 *
 * @module
 */

import type { ExpertSource, MatrixSource, TensorSource } from "../device/device.ts";
import type { DecoderLayer } from "../model/model.ts";

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

/** The layer with each linear's weight changed. */
export function mapLinears(layer: DecoderLayer, change: (linear: Linear) => TensorSource): DecoderLayer {
  const matrix = <M extends MatrixSource>(name: string, source: M): M => {
    if (!("left" in source)) return change({ name, weight: source }) as M;
    const right = change({ name: `${name}/right`, weight: source.right });
    return { left: change({ name: `${name}/left`, weight: source.left }), right } as MatrixSource as M;
  };
  const network = <N extends ExpertSource>(name: string, network: N): N => ({
    ...network,
    gate: matrix(`${name}/gate`, network.gate),
    up: matrix(`${name}/up`, network.up),
    down: matrix(`${name}/down`, network.down),
  });
  const attention = Object.entries(layer.attention).map(([name, weight]): [string, TensorSource] =>
    weight.shape.length === 2 ? [name, change({ name: attentionName(name), weight })] : [name, weight]
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

/** Name of an attention projection, from that of its weight below `self_attn`. */
export function attentionName(weight: string): string {
  return `attention/${weight.replace(/\.weight$/, "")}`;
}
