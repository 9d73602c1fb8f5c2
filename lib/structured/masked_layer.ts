/**
 * A layer that runs as if some of its structures were gone.
 *
 * @module
 */

import type { Device, Experts, Segment, Tensor } from "../device/device.ts";
import { attend, blockInput, blockOutput, forwardLayer, type LayerDevice } from "../model/decoder_layer.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { groupColumns, type LayerStructures, type NetworkChannels } from "./structure_plan.ts";

/**
 * Masks of one layer's structures, on the device until it is disposed. Weights are left alone, so one reading of them serves any number of masks: what
 * groups and channels give is multiplied by 0 or 1 in front of `o_proj` and `down`, experts are masked in the router. The model's own forward pass runs
 * on a device that does this on the way.
 */
export class MaskedLayer implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #device: LayerDevice;
  /** Routed experts that the router must not choose; none where all are gone. */
  readonly #masked: readonly number[];

  /** @param lost Structures of the layer; none for a layer that stays as it is. */
  constructor(
    readonly device: Device,
    readonly config: ModelConfig,
    readonly weights: LoadedLayer,
    readonly lost: LayerStructures | undefined,
  ) {
    const { block, attention } = weights, { groups = [], channels = [], experts = [] } = lost ?? {};
    // By the weight that they stand in front of.
    const factors = new Map<Tensor, Tensor>();
    const mask = (weight: Tensor, kept: (column: number) => boolean) => {
      const columns = weight.shape[1];
      factors.set(weight, this.#stack.use(device.tensor(Float32Array.from({ length: columns }, (_, j) => kept(j) ? 1 : 0), [columns])));
    };
    try {
      if (groups.length > 0) {
        const gone = new Set(groups), size = groupColumns(config);
        mask(attention.tensors["o_proj.weight"], (column) => !gone.has(Math.floor(column / size)));
      }
      for (const { of, drop } of channels) {
        const network = block.kind === "dense" ? block : block.shared, gone = new Set(drop);
        if (of !== "expert") mask(network!.down, (column) => !gone.has(column));
      }
      const routed = channels.filter(({ of }) => of === "expert"), none = block.kind === "moe" && experts.length === block.ids.length;
      const table = routed.length > 0 && block.kind === "moe"
        ? this.#stack.use(channelMasks(device, block.experts, block.ids, routed))
        : undefined;
      this.#masked = none ? [] : experts;
      this.#device = {
        ...device,
        linear: (x, weight, bias) => {
          const kept = factors.get(weight);
          if (!kept) return device.linear(x, weight, bias);
          using copy = device.widen(x);
          device.multiply(copy, kept);
          return device.linear(copy, weight, bias);
        },
        experts: (x, places, experts) => {
          if (none) {
            return device.tensor(new Float32Array(places.shape[0] * places.shape[1] * config.hidden), [...places.shape, config.hidden]);
          }
          return table ? maskedExperts(device, x, places, experts, table) : device.experts(x, places, experts);
        },
      };
    } catch (error) {
      this.#stack.dispose();
      throw error;
    }
  }

  /** Takes a residual stream through the layer, in place. */
  forward(hidden: Tensor, segments: readonly Segment[]): void {
    const { config, weights, lost } = this;
    if (!lost) return forwardLayer(this.device, config, weights, hidden, segments);
    if (lost.whole) return;
    attend(this.#device, config, weights.attention, hidden, segments);
    using input = blockInput(this.device, config, weights, hidden);
    using output = blockOutput(this.#device, config, weights.block, input, this.#masked);
    this.device.add(hidden, output);
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** `[experts, widest]`: 0 for the channels that an expert loses. */
function channelMasks(device: Device, { count, shapes }: Experts, ids: readonly number[], lost: readonly NetworkChannels[]): Tensor {
  const wide = Math.max(...shapes.map(({ down }) => down.dense![1])), values = new Float32Array(count * wide).fill(1);
  for (const { id, drop } of lost) {
    const row = ids.indexOf(id!) * wide;
    for (const channel of drop) values[row + channel] = 0;
  }
  return device.tensor(values, [count, wide]);
}

/** What `experts()` gives, with each expert's inner activations times its row of the table. */
function maskedExperts(device: Device, x: Tensor, places: Tensor, experts: Experts, table: Tensor): Tensor {
  using order = device.order(places, experts.count);
  const sorted = () => {
    using rows = device.sortRows(x, order);
    using opened = device.expertLinear(rows, order, { experts, kind: "gate", role: "dense" });
    using raised = device.expertLinear(rows, order, { experts, kind: "up", role: "dense" });
    return device.swiglu(opened, raised);
  };
  using inner = sorted();
  {
    using picked = device.gather(table, places);
    using factors = device.sortRows(picked, order);
    device.multiply(inner, factors);
  }
  using outputs = device.expertLinear(inner, order, { experts, kind: "down", role: "dense" });
  return device.unsortRows(outputs, order);
}
