/** Models that differ from others by known amounts. */

import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { mapRest } from "../../lib/delta/map_rest.ts";
import type { Model } from "../../lib/model/model.ts";
import { mapLinears } from "../../lib/sparsify/linears.ts";
import { noise } from "../devices.ts";

/** The model with noise added to all weights: of linears, and of everything but embedding and head, which are left as they are. */
export async function tunedBy(model: Model, size: number, seed = 1): Promise<Model> {
  const sources = new Map<TensorSource, TensorSource>();
  let next = seed;
  const moved = async (weight: TensorSource) => {
    const values = await readWide(weight), more = noise(values.length, next++);
    sources.set(weight, { ...heldSource(values.map((value, i) => value + size * more[i]), weight.shape), origin: weight.dtype });
  };
  const all: TensorSource[] = [];
  const note = <S extends TensorSource>(place: string, weight: S): S => {
    if (place !== "embedding" && place !== "head") all.push(weight);
    return weight;
  };
  mapRest(model, note);
  for (const layer of model.layers) mapLinears(layer, ({ name, weight }) => note(name, weight));
  for (const weight of all) await moved(weight);
  const other = mapRest(model, (_, weight) => (sources.get(weight) ?? weight) as typeof weight);
  return { ...other, layers: other.layers.map((layer) => mapLinears(layer, ({ weight }) => sources.get(weight)!)) };
}
