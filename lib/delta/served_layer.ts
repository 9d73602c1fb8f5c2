/**
 * One layer of a tuned model over the weights of its base.
 *
 * @module
 */

import { heldSource } from "../checkpoint/held_source.ts";
import type { Device, ExpertSource, Tensor, TensorSource } from "../device/device.ts";
import type { ExpertPart, SlotOrder } from "../device/vjp.ts";
import type { Experts } from "../device/types.ts";
import { changed, type LayerDevice } from "../model/decoder_layer.ts";
import { loadAttention, type LoadedLayer } from "../model/load_layer.ts";
import { loadWide } from "../model/load_wide.ts";
import type { DecoderLayer } from "../model/model.ts";
import type { ModelConfig } from "../model/parse_config.ts";
import { attentionName, mapLinears } from "../sparsify/linears.ts";
import type { DeltaLinear } from "./compressed_delta.ts";
import { factorsOf } from "./delta_values.ts";

/** A layer of a tuned model: what it shares with the base, what is its own, and a device on which products have its differences. */
export interface ServedLayer {
  readonly weights: LoadedLayer;
  readonly device: LayerDevice;
}

/** Factors of a difference on the device: x · rightᵀ · leftᵀ. */
interface Correction {
  right: Tensor;
  left: Tensor;
}

/**
 * Loads what is a tuned model's own of a layer: norms, biases, router, and factors of the differences, widened to float32.
 *
 * @param base The base's layer, loaded.
 * @param layer The tuned model's, whose linears are no products of factors; only weights that are no linears are read of it.
 * @param forms Differences of its linears, by name.
 * @param stack Gets what lies on the device.
 */
export async function servedLayer(
  device: Device,
  config: ModelConfig,
  base: LoadedLayer,
  layer: DecoderLayer,
  forms: ReadonlyMap<string, DeltaLinear>,
  stack: DisposableStack,
): Promise<ServedLayer> {
  const corrections = new Map<Tensor, Correction>();
  /** The layer with each linear's matrix replaced by a factor of its difference. */
  const factors = (side: "left" | "right") => mapLinears(layer, ({ name }) => factorSource(forms.get(name)!, side));
  const [lefts, rights] = [factors("left"), factors("right")];
  const left = stack.use(await loadAttention(device, config, lefts)); // norm and biases are the layer's own
  const right = new Map<string, Tensor>();
  for (const [name, source] of Object.entries(rights.attention)) {
    if (!("left" in source) && source.shape.length === 2) right.set(attentionName(name), stack.use(await device.load(source)));
  }
  const tensors: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(left.tensors)) {
    const shared = base.attention.tensors[name],
      linear = right.get(attentionName(name.replace(/^(latent|rotated)\./, "kv_a_proj_with_mqa.")));
    tensors[name] = tensor.shape.length === 2 ? shared : tensor;
    if (tensor.shape.length === 2) corrections.set(shared, { left: tensor, right: linear! });
  }
  const { block } = layer, network = block.kind === "dense" ? block : block.shared, own = lefts.block, other = rights.block;
  const [under, over] = [own, other].map((b) => b.kind === "dense" ? b : b.shared);
  const baseNetwork = base.block.kind === "dense" ? base.block : base.block.shared;
  for (const kind of ["gate", "up", "down"] as const) {
    if (!network) continue;
    corrections.set(baseNetwork![kind], {
      left: stack.use(await device.load(under![kind])),
      right: stack.use(await device.load(over![kind])),
    });
  }
  const outputNorm = stack.use(await loadWide(device, layer.outputNorm));
  const attention = { norm: left.norm, tensors, [Symbol.dispose]: () => {} };
  if (block.kind === "dense" || base.block.kind === "dense") {
    return { weights: { attention, outputNorm, block: base.block, [Symbol.dispose]: () => {} }, device: correcting(device, corrections) };
  }
  const experts = block.experts.map((_, e): ExpertSource => {
    const pair = (kind: "gate" | "up" | "down") => {
      const [l, r] = [own, other].map((b) => (b as typeof block).experts[e][kind] as TensorSource);
      return { left: l, right: r };
    };
    return { gate: pair("gate"), up: pair("up"), down: pair("down") };
  });
  const differences = stack.use(await device.loadExperts(experts)), router = stack.use(await device.load(block.router));
  const scale = block.shared?.scale && stack.use(await device.load(block.shared.scale));
  const shared = base.block.shared && { ...base.block.shared, ...(scale ? { scale } : {}) };
  return {
    weights: { attention, outputNorm, block: { ...base.block, router, shared, [Symbol.dispose]: () => {} }, [Symbol.dispose]: () => {} },
    device: correcting(device, corrections, differences),
  };
}

/** All groups of a linear's difference as one factor, in float32; without any component, one that is 0. */
function factorSource({ form, shape: [rows, columns] }: DeltaLinear, side: "left" | "right"): TensorSource {
  const groups = form as Extract<DeltaLinear["form"], unknown[]>, counts = groups.map(({ singularValues }) => singularValues.length);
  const rank = Math.max(1, counts.reduce((a, b) => a + b, 0)), shape = side === "left" ? [rows, rank] : [rank, columns];
  return {
    dtype: "F32",
    shape,
    read: async (into) => {
      const values = new Float32Array(shape[0] * shape[1]);
      let first = 0;
      for (const [g, group] of groups.entries()) {
        const part = factorsOf(group)[side], count = counts[g];
        if (side === "right") values.set(part, first * columns);
        else for (let i = 0; i < rows; i++) values.set(part.subarray(i * count, (i + 1) * count), i * rank + first);
        first += count;
      }
      await heldSource(values, shape).read(into);
    },
  };
}

/** The device with products corrected: y = W x + left (right x), the sum of both matrices never made. */
function correcting(device: Device, corrections: ReadonlyMap<Tensor, Correction>, differences?: Experts): LayerDevice {
  return {
    ...device,
    linear: (x, weight, bias) => {
      const y = device.linear(x, weight, bias), correction = corrections.get(weight);
      return correction ? changed(y, () => addProduct(device, y, x, correction)) : y;
    },
    experts: (x, table, experts) => differences ? tunedExperts(device, x, table, experts, differences) : device.experts(x, table, experts),
  };
}

function addProduct(device: Device, y: Tensor, x: Tensor, { right, left }: Correction): void {
  using middle = device.linear(x, right);
  using step = device.linear(middle, left);
  device.add(y, step);
}

/** Output of each listed expert for its token, by products over rows that are sorted by expert. */
function tunedExperts(device: Device, x: Tensor, table: Tensor, experts: Experts, differences: Experts): Tensor {
  using order = device.order(table, experts.count);
  using rows = device.sortRows(x, order);
  using gate = tunedProduct(device, rows, order, experts, differences, "gate");
  using up = tunedProduct(device, rows, order, experts, differences, "up");
  using inner = device.swiglu(gate, up);
  using output = tunedProduct(device, inner, order, experts, differences, "down");
  return device.unsortRows(output, order);
}

function tunedProduct(device: Device, x: Tensor, order: SlotOrder, base: Experts, differences: Experts, kind: ExpertPart["kind"]): Tensor {
  const y = device.expertLinear(x, order, { experts: base, kind, role: "dense" });
  return changed(y, () => {
    using middle = device.expertLinear(x, order, { experts: differences, kind, role: "right" });
    using step = device.expertLinear(middle, order, { experts: differences, kind, role: "left" });
    device.add(y, step);
  });
}
