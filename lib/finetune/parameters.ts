/**
 * Adapters on a device while they are trained.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { partExtent } from "../device/part_extent.ts";
import type { ExpertPart, MatrixStack } from "../device/vjp.ts";
import type { LoadedLayer, LoadedMoe } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import type { Correction, LayerAdapters, Multiplier } from "./adapted.ts";
import { adapterSites, type Site, type Target } from "./adapter_sites.ts";
import { type Adapters, adapterShapes, rowsOf } from "./adapters.ts";
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
  readonly #about: Pick<Adapters, "kind" | "rank" | "alpha">;
  readonly #sites: ReadonlyMap<DecoderLayer, readonly Site[]>;
  readonly #byTensor = new Map<Tensor, Parameter>();
  readonly #tensors: DisposableStack;

  constructor(
    device: Device,
    model: Model,
    { kind, rank, alpha, values }: Adapters,
    targets: readonly Target[],
    moments?: (name: string, state: "first" | "second") => Float32Array<ArrayBuffer>,
  ) {
    using made = new DisposableStack();
    this.#about = { kind, rank, alpha };
    this.#sites = new Map(model.layers.map((l) => [l, adapterSites(model, l).filter(({ target }) => targets.includes(target))]));
    for (const [layer, sites] of this.#sites) {
      for (const site of sites) {
        for (const [end, shapes] of Object.entries(adapterShapes(site, this.#about))) {
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

  /** Adapters of the weights of a layer. */
  adapters(layer: DecoderLayer, weights: LoadedLayer, dropout: Dropout): LayerAdapters {
    const linear = new Map<Tensor, Correction<Tensor> | Multiplier>(),
      experts = new Map<ExpertPart, Correction<MatrixStack> | Multiplier>();
    const { kind, rank, alpha } = this.#about, spp = kind === "spp";
    for (const site of this.#sites.get(layer)!) {
      if (site.kind === "router") continue;
      const name = `${layer.index}/${site.key}`, shapes = adapterShapes(site, this.#about);
      const value = (end: string) => this.all.get(`${name}/${end}`)!.value,
        stack = (end: string) => ({ tensor: value(end), shapes: shapes[end] });
      const common = { scale: alpha / rank, dropout: { rate: dropout.rate, seed: dropout.rate > 0 ? dropout.seed(name) : 0 } };
      if (site.kind === "experts") {
        const part = expertParts((weights.block as LoadedMoe).experts).find((p) => p.kind === site.part.kind && p.role === site.part.role)!;
        const [out, width] = partExtent(part), factors = { down: stack("down"), up: stack("up"), ...common };
        if (spp) experts.set(part, { kind: "spp", ...factors });
        else {
          const [down, up] = [{ ...factors.down, extent: [rank, width] as const }, { ...factors.up, extent: [out, rank] as const }];
          experts.set(part, { kind: "lora", ...common, down, up });
        }
        continue;
      }
      let first = 0;
      for (const [i, { find, rows }] of site.pieces.entries()) {
        const up = site.pieces.length > 1 ? `up.${i}` : "up", within = { first, rows: rowsOf(site) };
        if (spp) linear.set(find(weights), { kind: "spp", down: stack("down"), up: stack(up), within, ...common });
        else linear.set(find(weights), { kind: "lora", down: value("down"), up: value(up), ...common });
        first += rows;
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
