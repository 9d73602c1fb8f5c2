/**
 * The weights of a model that are no linears.
 *
 * @module
 */

import type { MatrixSource, TensorSource } from "../device/device.ts";
import type { DecoderLayer, Expert, Model, RowSource } from "../model/model.ts";

/** Gives another weight for the one at a place, such as "embedding" or "2/attention/q_proj.bias". */
export type ChangeRest = <S extends TensorSource>(place: string, weight: S) => S;

/** The model with every weight changed that is no linear: embedding, head, norms, biases, routers, gates of shared experts. A tied head stays tied. */
export function mapRest<M extends Pick<Model, "embedding" | "layers" | "norm" | "head">>(model: M, change: ChangeRest): M {
  const embedding = change<RowSource>("embedding", model.embedding);
  return {
    ...model,
    embedding,
    layers: model.layers.map((layer) => mapLayer(layer, change)),
    norm: change("norm", model.norm),
    head: model.head === model.embedding ? embedding : change("head", model.head),
  };
}

function mapLayer(layer: DecoderLayer, change: ChangeRest): DecoderLayer {
  const at = <S extends TensorSource>(name: string, weight: S) => change(`${layer.index}/${name}`, weight), { block } = layer;
  const vectors = Object.entries(layer.attention).map(([name, weight]): [string, MatrixSource] =>
    "left" in weight || weight.shape.length === 2 ? [name, weight] : [name, at(`attention/${name}`, weight)]
  );
  const scale = block.kind === "moe" ? block.shared?.scale : undefined, changed = new Map<TensorSource, TensorSource>();
  /** One that several experts share is changed once, under the name of the first, as their matrices are. */
  const biased = (expert: Expert): Expert => {
    if (!expert.biases) return expert;
    const biases = Object.entries(expert.biases).map(([kind, bias]) => {
      const made = changed.get(bias) ?? at(`experts/${expert.id}/${kind}.bias`, bias);
      changed.set(bias, made);
      return [kind, made];
    });
    return { ...expert, biases: Object.fromEntries(biases) };
  };
  return {
    ...layer,
    inputNorm: at("inputNorm", layer.inputNorm),
    outputNorm: at("outputNorm", layer.outputNorm),
    attention: Object.fromEntries(vectors),
    block: block.kind === "dense" ? block : {
      ...block,
      router: at("router", block.router),
      experts: block.experts.map(biased),
      ...(scale ? { shared: { ...block.shared!, scale: at("shared/scale", scale) } } : {}),
    },
  };
}

/** All of them, by their place. */
export function restOf(model: Pick<Model, "embedding" | "layers" | "norm" | "head">): Map<string, TensorSource> {
  const rest = new Map<string, TensorSource>();
  mapRest(model, (place, weight) => {
    rest.set(place, weight);
    return weight;
  });
  return rest;
}
