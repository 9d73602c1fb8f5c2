/**
 * Seeing what the linears of a layer meet, whatever its architecture: the model's own forward pass runs on a device that looks on.
 *
 * @module
 */

import type { Device, Experts, Tensor } from "../device/device.ts";
import type { ExpertPart, SlotOrder } from "../device/vjp.ts";
import { changed, type LayerDevice } from "../model/decoder_layer.ts";
import type { LoadedLayer } from "../model/load_layer.ts";
import { sortedBiases } from "../model/sorted_biases.ts";
import { attentionName } from "./linears.ts";

/** What some linears met in a batch. */
export interface MetInput {
  /** `[rows, in]` */
  readonly input: Tensor;
  /** Of linears that meet all of it. */
  readonly names: Set<string>;
  /** Of experts that meet it, each its own rows: those of an expert stand together, in the order of the experts. */
  readonly routed?: RoutedInput;
}

export interface RoutedInput {
  readonly order: SlotOrder;
  /** Position of the expert in its layer and routing weight, `[tokens, ranks]`. */
  readonly table: Tensor;
  readonly gates: Tensor;
  /** Matrices or factors that meet the rows, by name, of each expert. */
  readonly names: readonly (readonly string[])[];
}

/** Keeps copies of what the linears of a layer meet, until it is disposed. */
export class InputWatch implements Disposable {
  /** To run the layer's forward pass on. What it computes has the bits of the watched device. */
  readonly device: LayerDevice;
  readonly met: MetInput[] = [];
  readonly #kept = new DisposableStack();
  readonly #gates = new Map<Tensor, Tensor>();

  constructor(device: Device, weights: LoadedLayer) {
    const names = namesOf(weights), seen = new Map<Tensor, MetInput>();
    this.device = {
      ...device,
      linear: (x, weight, bias) => {
        const name = names.get(weight);
        if (name !== undefined) {
          let met = seen.get(x);
          if (!met) {
            met = { input: this.#keep(device.widen(x)), names: new Set() };
            seen.set(x, met);
            this.met.push(met);
          }
          met.names.add(name);
        }
        return device.linear(x, weight, bias);
      },
      // The table of experts is needed later: the forward pass must not dispose it.
      rank: (...args) => ({ ...this.#keep(device.rank(...args)), [Symbol.dispose]: () => {} }),
      gates: (ranking, rule) => {
        const gates = device.gates(ranking, rule);
        return changed(gates, () => this.#gates.set(ranking.experts, this.#keep(device.widen(gates))));
      },
      experts: (x, table, experts) => {
        const ids = weights.block.kind === "moe" ? weights.block.ids : [];
        this.#meetExperts(device, x, table, experts, ids);
        return device.experts(x, table, experts);
      },
    };
  }

  /** Runs gate and up projections once more, over rows that are sorted by expert. */
  #meetExperts(device: Device, x: Tensor, table: Tensor, experts: Experts, ids: readonly number[]): void {
    const order = this.#keep(device.order(table, experts.count)), gates = this.#gates.get(table)!;
    const has = (kind: ExpertPart["kind"], role: ExpertPart["role"]) => experts.shapes.some((shapes) => shapes[kind][role]);
    const see = (input: Tensor, parts: [ExpertPart["kind"], ExpertPart["role"]][]) => {
      const names = ids.map((id, e) =>
        parts.filter(([kind, role]) => experts.shapes[e][kind][role])
          .map(([kind, role]) => `experts/${id}/${kind}${role === "dense" ? "" : `/${role}`}`)
      );
      this.met.push({ input, names: new Set(), routed: { order, table, gates, names } });
    };
    /** Output of gate or up projections, and what left factors meet. */
    const project = (kind: "gate" | "up") => {
      const dense = has(kind, "dense") ? device.expertLinear(rows, order, { experts, kind, role: "dense" }) : undefined;
      using biases = sortedBiases(device, experts, kind, table, order);
      if (!has(kind, "right")) return changed(dense!, () => biases && device.add(dense!, biases));
      using _ = dense;
      const middle = this.#keep(device.expertLinear(rows, order, { experts, kind, role: "right" }));
      see(middle, [[kind, "left"]]);
      const output = device.expertLinear(middle, order, { experts, kind, role: "left" });
      return changed(output, () => {
        if (dense) device.add(output, dense); // each row is zero in one of the two
        if (biases) device.add(output, biases);
      });
    };
    const rows = this.#keep(device.sortRows(x, order));
    see(rows, [["gate", "dense"], ["gate", "right"], ["up", "dense"], ["up", "right"]]);
    using opened = project("gate");
    using raised = project("up");
    const inner = this.#keep(device.swiglu(opened, raised));
    see(inner, [["down", "dense"], ["down", "right"]]);
    if (has("down", "right")) {
      see(this.#keep(device.expertLinear(inner, order, { experts, kind: "down", role: "right" })), [["down", "left"]]);
    }
  }

  #keep<T extends Disposable>(value: T): T {
    return this.#kept.use(value);
  }

  [Symbol.dispose](): void {
    this.#kept.dispose();
  }
}

/** Names of linears that every token meets, by their loaded weights. Both parts of latent attention's joint projection are the one that is stored. */
function namesOf({ attention, block }: LoadedLayer): Map<Tensor, string> {
  const names = new Map<Tensor, string>();
  for (const [name, tensor] of Object.entries(attention.tensors)) {
    const stored = name.replace(/^(latent|rotated)\./, "kv_a_proj_with_mqa.");
    if (tensor.shape.length === 2) names.set(tensor, attentionName(stored));
  }
  const network = block.kind === "dense" ? block : block.shared, group = block.kind === "dense" ? "dense" : "shared";
  for (const kind of ["gate", "up", "down"] as const) if (network) names.set(network[kind], `${group}/${kind}`);
  return names;
}
