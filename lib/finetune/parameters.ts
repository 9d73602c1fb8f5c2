/**
 * Adapters on a device while they are trained.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { partExtent } from "../device/part_extent.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import type { Correction, LayerAdapters } from "./adapted.ts";
import { adapterSites, type Site, type Target } from "./adapter_sites.ts";
import { type Adapters, adapterShapes } from "./adapters.ts";
import { expertParts } from "./expert_parts.ts";

/** What is trained, with AdamW's moments. */
export interface Parameter {
  readonly value: Tensor;
  readonly first: Tensor;
  readonly second: Tensor;
  gradient?: Tensor;
}

/** What of it a training state holds. */
export const STATES = ["value", "first", "second"] as const;

export interface Dropout {
  readonly rate: number;
  /** A number for a place in the model, another one at every step. */
  seed(name: string): number;
}

/** All that is trained, by the names of `Adapters.values`. */
export class Parameters implements Disposable {
  readonly all = new Map<string, Parameter>();
  readonly #scale: number;
  readonly #rank: number;
  readonly #sites: ReadonlyMap<DecoderLayer, readonly Site[]>;
  readonly #byTensor = new Map<Tensor, Parameter>();
  readonly #tensors: DisposableStack;

  constructor(
    device: Device,
    model: Model,
    { rank, alpha, values }: Adapters,
    targets: readonly Target[],
    moments?: (name: string, state: "first" | "second") => Float32Array<ArrayBuffer>,
  ) {
    using made = new DisposableStack();
    this.#scale = alpha / rank, this.#rank = rank;
    this.#sites = new Map(model.layers.map((l) => [l, adapterSites(model, l).filter(({ target }) => targets.includes(target))]));
    for (const [layer, sites] of this.#sites) {
      for (const site of sites) {
        for (const [end, shapes] of Object.entries(adapterShapes(site, rank))) {
          // Single matrices have their shape, stacks are flat.
          const name = `${layer.index}/${site.key}/${end}`, numbers = values.get(name)!;
          const tensor = (values: Float32Array<ArrayBuffer>) =>
            made.use(device.tensor(values, site.kind === "experts" ? [values.length] : shapes[0]));
          const moment = (state: "first" | "second") => tensor(moments?.(name, state) ?? new Float32Array(numbers.length));
          const parameter = { value: tensor(numbers), first: moment("first"), second: moment("second") };
          this.all.set(name, parameter);
          this.#byTensor.set(parameter.value, parameter);
        }
      }
    }
    this.#tensors = made.move();
  }

  /** The parameters of a layer: what gradients are taken of. */
  tensors(layer: DecoderLayer): Tensor[] {
    return [...this.all].filter(([name]) => name.startsWith(`${layer.index}/`)).map(([, { value }]) => value);
  }

  /** Adds to the gradient of a parameter. */
  collect(device: Device, value: Tensor, gradient: Tensor): void {
    const parameter = this.#byTensor.get(value)!;
    if (!parameter.gradient) parameter.gradient = gradient;
    else {
      using part = gradient;
      device.add(parameter.gradient, part);
    }
  }

  /** The layer's weights with the trained router in the place of the stored one. */
  withRouter(layer: DecoderLayer, weights: LoadedLayer): LoadedLayer {
    const router = this.all.get(`${layer.index}/router/weight`)?.value;
    return router && weights.block.kind === "moe" ? { ...weights, block: { ...weights.block, router } } : weights;
  }

  /** Corrections of the weights of a layer. */
  adapters(layer: DecoderLayer, weights: LoadedLayer, dropout: Dropout): LayerAdapters {
    const linear = new Map<Tensor, Correction<Tensor>>(), experts = new Map(), scale = this.#scale;
    for (const site of this.#sites.get(layer)!) {
      const name = `${layer.index}/${site.key}`, value = (end: string) => this.all.get(`${name}/${end}`)!.value;
      const common = { scale, dropout: { rate: dropout.rate, seed: dropout.rate > 0 ? dropout.seed(name) : 0 } };
      if (site.kind === "linear") {
        site.pieces.forEach(({ find }, i) => {
          linear.set(find(weights), { down: value("down"), up: value(site.pieces.length > 1 ? `up.${i}` : "up"), ...common });
        });
      } else if (site.kind === "experts" && weights.block.kind === "moe") {
        const { kind, role } = site.part, shapes = adapterShapes(site, this.#rank);
        const part = expertParts(weights.block.experts).find((p) => p.kind === kind && p.role === role)!;
        const [rows, columns] = partExtent(part);
        experts.set(part, {
          down: { tensor: value("down"), shapes: shapes.down, extent: [this.#rank, columns] },
          up: { tensor: value("up"), shapes: shapes.up, extent: [rows, this.#rank] },
          ...common,
        });
      }
    }
    return { linear, experts };
  }

  dropGradients(): void {
    for (const parameter of this.all.values()) {
      parameter.gradient?.[Symbol.dispose]();
      parameter.gradient = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.dropGradients();
    this.#tensors[Symbol.dispose]();
  }
}
