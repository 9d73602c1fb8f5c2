/**
 * Residual streams of all batches, off the device: one batch at a time is on it.
 *
 * @module
 */

import { Scratch, type Stored } from "../checkpoint/scratch.ts";
import type { Device, Segment, Tensor } from "../device/device.ts";
import { type Batch, batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import { LayerStore } from "../model/layer_store.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { pause } from "../model/stage_options.ts";

/** The streams in front of a layer. */
export class ResidualStreams implements Disposable {
  /** Layers that they went through. */
  #taken = 0;
  #scratch = new Scratch();
  #stored: Stored[] = [];
  readonly #batches: readonly (Batch & { group: number })[];

  /**
   * @param sequences Token ids.
   * @param signal Stops what goes through the streams.
   * @param group So many consecutive sequences are a group; no batch holds tokens of two. By default all are one.
   * @throws {TypeError} If these are no sequences.
   * @throws {RangeError} If an id is outside the vocabulary.
   */
  constructor(readonly device: Device, readonly model: Model, sequences: Sequences, readonly signal?: AbortSignal, group = Infinity) {
    // What experts work with is as large as their outputs, or as wide as they are.
    const { hidden, moe } = model.config, width = Math.max(1, moe.intermediate / hidden);
    const batchesOf = (some: Sequences) => batchSequences(model.config, some, batchTokens(model.config, moe.topK * width)),
      all = batchesOf(sequences);
    const groups = Array.from({ length: Math.ceil(sequences.length / group) }, (_, g) => sequences.slice(g * group, (g + 1) * group));
    this.#batches = groups.length > 1
      ? groups.flatMap((some, group) => batchesOf(some).map((batch) => ({ ...batch, group })))
      : all.map((batch) => ({ ...batch, group: 0 }));
  }

  /** In all batches. */
  get tokens(): number {
    return this.#batches.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  /** Takes the streams through layers, up to the one at position `layers.length`. */
  async takeThrough(layers: readonly DecoderLayer[]): Promise<void> {
    const { device, model } = this;
    if (this.#stored.length === 0) {
      for (const { ids } of this.#batches) {
        await pause(this.signal);
        using hidden = await embed(device, model, ids);
        this.#stored.push(await this.#scratch.store(await device.read(hidden)));
      }
    }
    await using store = new LayerStore(device, { ...model, layers });
    for (; this.#taken < layers.length; this.#taken++) {
      using weights = await store.load(layers[this.#taken]);
      using next = new DisposableStack();
      const scratch = next.use(new Scratch()), stored: Stored[] = [];
      for await (const { hidden, segments } of this.each()) {
        forwardLayer(device, model.config, weights, hidden, segments);
        stored.push(await scratch.store(await device.read(hidden)));
      }
      this.#scratch[Symbol.dispose]();
      this.#scratch = scratch, this.#stored = stored;
      next.move();
    }
  }

  /** Copies of the streams, batch by batch; they are given back when the next one is asked for. */
  async *each(): AsyncGenerator<{ hidden: Tensor; segments: readonly Segment[]; group: number }> {
    const width = this.model.config.hidden;
    for (const [b, { ids, segments, group }] of this.#batches.entries()) {
      await pause(this.signal);
      const values = new Float32Array(ids.length * width);
      await this.#stored[b].read(0, values);
      using hidden = this.device.tensor(values, [ids.length, width]);
      yield { hidden, segments, group };
    }
  }

  [Symbol.dispose](): void {
    this.#scratch[Symbol.dispose]();
  }
}
