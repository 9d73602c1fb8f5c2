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

/** Bytes of weights that may stay on the device unless somebody says otherwise. */
export const RESIDENT: number = 2 ** 30;

/** @throws {RangeError} If it is no number of bytes. */
export function expectResidentBytes(bytes: number | undefined, purpose: string): void {
  if (typeof bytes === "number" && bytes >= 0) return;
  throw new RangeError(`Cannot ${purpose}: "residentBytes" must be at least 0, received ${String(bytes)}`);
}

/** Brings layers to the device; a model that is small enough stays there. */
export class LayerStore implements Disposable {
  readonly #device: Device;
  readonly #model: Model;
  readonly #kept: Map<DecoderLayer, LoadedLayer> | undefined;

  /** @param resident Bytes of layers that may stay on the device: if all of them fit, they do. */
  constructor(device: Device, model: Model, resident: number) {
    this.#device = device, this.#model = model;
    if (model.layers.reduce((n, layer) => n + layerBytes(layer), 0) <= resident) this.#kept = new Map();
  }

  /** Do layers stay? */
  get resident(): boolean {
    return this.#kept !== undefined;
  }

  /** The caller disposes what it gets; what is kept stays. */
  async load(layer: DecoderLayer): Promise<LoadedLayer> {
    const kept = this.#kept?.get(layer);
    if (kept) return { ...kept, [Symbol.dispose]: () => {} };
    const loaded = await loadLayer(this.#device, this.#model.config, layer);
    if (!this.#kept) return loaded;
    this.#kept.set(layer, loaded);
    return { ...loaded, [Symbol.dispose]: () => {} };
  }

  [Symbol.dispose](): void {
    for (const layer of this.#kept?.values() ?? []) layer[Symbol.dispose]();
  }
}

/** Bytes of the matrices of a layer, as they are stored; one that several experts share counts once. */
export function layerBytes({ attention, block }: DecoderLayer): number {
  const matrices: MatrixSource[] = block.kind === "dense"
    ? [block.gate, block.up, block.down]
    : [...block.experts, ...(block.shared ? [block.shared] : [])].flatMap(({ gate, up, down }): MatrixSource[] => [gate, up, down]);
  const all = [...Object.values(attention), ...matrices].flatMap(matrixParts);
  return [...new Set(all)].reduce((n, source) => n + tensorBytes(source), 0);
}
