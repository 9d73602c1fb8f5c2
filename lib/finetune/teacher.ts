/**
 * A model that another one learns from.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { Batch } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import type { Model } from "../model/model.ts";
import { pause } from "../model/stage_options.ts";
import type { LayerStore } from "./layer_store.ts";

/** Takes a batch through all layers of a model; gives the residual stream before the final norm. */
export async function teacherStream(device: Device, model: Model, store: LayerStore, batch: Batch, signal?: AbortSignal): Promise<Tensor> {
  using stack = new DisposableStack();
  const stream = stack.use(await embed(device, model, batch.ids));
  for (const layer of model.layers) {
    await pause(signal);
    using weights = await store.load(layer);
    forwardLayer(device, model.config, weights, stream, batch.segments);
  }
  stack.move();
  return stream;
}

/** Throws unless both models predict the same tokens from streams of the same width. */
export function checkTeacher(student: Model, teacher: Model): void {
  const [mine, theirs] = [student, teacher].map(({ config: { vocabulary, hidden, normEpsilon } }) => ({ vocabulary, hidden, normEpsilon }));
  for (const name of ["vocabulary", "hidden", "normEpsilon"] as const) {
    if (mine[name] !== theirs[name]) {
      throw new RangeError(`Cannot learn from the teacher: its "${name}" is ${theirs[name]}, that of the model is ${mine[name]}`);
    }
  }
}
