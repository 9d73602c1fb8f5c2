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
import { expectModel } from "../model/expect_stage.ts";
import { weightsFingerprint } from "./fingerprint.ts";
import type { LayerStore } from "../model/layer_store.ts";

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

/** @throws {RangeError} Unless both models predict the same tokens from streams of the same width, by the same final norm and head. */
export async function checkTeacher(student: Model, teacher: Model): Promise<void> {
  expectModel(teacher, "learn from the teacher");
  const [mine, theirs] = [student, teacher].map(({ config: { vocabulary, hidden, normEpsilon } }) => ({ vocabulary, hidden, normEpsilon }));
  for (const name of ["vocabulary", "hidden", "normEpsilon"] as const) {
    if (mine[name] !== theirs[name]) {
      throw new RangeError(`Cannot learn from the teacher: its "${name}" is ${theirs[name]}, that of the model is ${mine[name]}`);
    }
  }
  for (const name of ["norm", "head"] as const) {
    if (student[name] === teacher[name] || await weightsFingerprint([student[name]]) === await weightsFingerprint([teacher[name]])) {
      continue;
    }
    throw new RangeError(`Cannot learn from the teacher: its final ${name} is not that of the model`);
  }
}
