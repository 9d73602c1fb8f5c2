/**
 * Weights that are needed again and again.
 *
 * @module
 */

import { tensorBytes } from "../checkpoint/write_safetensors.ts";
import type { Device, MatrixSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import { type LoadedLayer, loadLayer } from "./load_layer.ts";
import type { DecoderLayer, Model } from "./model.ts";
import { prefetchLayer } from "./prefetch_layer.ts";

/** Bytes of weights that may stay on the device unless somebody says otherwise. */
export const RESIDENT: number = 2 ** 30;

/** @throws {RangeError} If it is no number of bytes. */
export function expectResidentBytes(bytes: number | undefined, purpose: string): void {
  if (typeof bytes === "number" && bytes >= 0) return;
  throw new RangeError(`Cannot ${purpose}: "residentBytes" must be at least 0, received ${String(bytes)}`);
}

/**
 * Brings layers to the device; a model that is small enough stays there. While a layer is in use that had to be read, the one that follows in the order of
 * the calls, up or down, is fetched from disk. Disposing waits for that.
 */
export class LayerStore implements AsyncDisposable {
  readonly #device: Device;
  readonly #model: Pick<Model, "config" | "layers">;
  readonly #kept: Map<DecoderLayer, LoadedLayer> | undefined;
  #place = -1;
  #fetched: Promise<unknown> = Promise.resolve();

  /** @param resident Bytes of layers that may stay on the device: if all of them fit, they do. None by default. */
  constructor(device: Device, model: Pick<Model, "config" | "layers">, resident = 0) {
    this.#device = device, this.#model = model;
    if (model.layers.reduce((n, layer) => n + layerBytes(layer), 0) <= resident) this.#kept = new Map();
  }

  /** Do layers stay? */
  get resident(): boolean {
    return this.#kept !== undefined;
  }

  /** The caller disposes what it gets; what is kept stays. */
  async load(layer: DecoderLayer): Promise<LoadedLayer> {
    const next = this.#following(layer), kept = this.#kept?.get(layer);
    if (kept) return { ...kept, [Symbol.dispose]: () => {} };
    const loaded = await loadLayer(this.#device, this.#model.config, layer);
    if (next && !this.#kept?.has(next)) this.#fetched = both(this.#fetched, prefetchLayer(next));
    if (!this.#kept) return loaded;
    this.#kept.set(layer, loaded);
    return { ...loaded, [Symbol.dispose]: () => {} };
  }

  /** The layer that is likely to be loaded after this one: its neighbour on the other side than the one before. */
  #following(layer: DecoderLayer): DecoderLayer | undefined {
    const { layers } = this.#model, place = layers.indexOf(layer), down = place > 0 && place <= this.#place;
    this.#place = place;
    return place < 0 ? undefined : layers[down ? place - 1 : place + 1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const layer of this.#kept?.values() ?? []) layer[Symbol.dispose]();
    await this.#fetched;
  }
}

/** Done when both are, without what they gave. What cannot be fetched is met again by who reads it. */
async function both(one: Promise<unknown>, other: Promise<unknown>): Promise<void> {
  await Promise.allSettled([one, other]);
}

/** Bytes of the matrices of a layer, as they are stored; one that several experts share counts once. */
export function layerBytes({ attention, block }: DecoderLayer): number {
  const matrices: MatrixSource[] = block.kind === "dense"
    ? [block.gate, block.up, block.down]
    : [...block.experts, ...(block.shared ? [block.shared] : [])].flatMap(({ gate, up, down }): MatrixSource[] => [gate, up, down]);
  const all = [...Object.values(attention), ...matrices].flatMap(matrixParts);
  return [...new Set(all)].reduce((n, source) => n + tensorBytes(source), 0);
}
