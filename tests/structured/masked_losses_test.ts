/** Losses under masks are those of models whose structures are gone. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import type { Device, TensorSource } from "../../lib/device/device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { mergeLayers } from "../../lib/merge/merge_layers.ts";
import { type DecoderLayer, type Model, moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { mapLinears } from "../../lib/sparsify/linears.ts";
import { maskedLosses } from "../../lib/structured/masked_losses.ts";
import { groupsOf, networksOf, type StructurePlan } from "../../lib/structured/structure_plan.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { ROUTERS, withModel } from "../small_models.ts";

const lossOf = async (device: Device, model: Model, sequences: Uint32Array[]) => (await perplexity(device, model, sequences)).nll;

/** The layer with zeros in some columns of the matrices that a name picks. */
async function zeroed(layer: DecoderLayer, columnsOf: Record<string, (column: number) => boolean>): Promise<DecoderLayer> {
  const sources = new Map<string, TensorSource>(), linears: { name: string; weight: TensorSource }[] = [];
  mapLinears(layer, (linear) => (linears.push(linear), linear.weight));
  for (const { name, weight } of linears) {
    if (!(name in columnsOf)) continue;
    const values = await readWide(weight), columns = weight.shape[1];
    sources.set(name, heldSource(values.map((v, i) => columnsOf[name](i % columns) ? 0 : v), weight.shape));
  }
  assertEquals(sources.size, Object.keys(columnsOf).length);
  return mapLinears(layer, ({ name, weight }) => sources.get(name) ?? weight);
}

const MODELS = {
  ...ROUTERS,
  "shared expert with a gate": "qwen2_moe, old spellings",
  "head width of its own": "mixtral, head width of its own, tied",
};

for (const [kind, variant] of Object.entries(MODELS)) {
  testOnDevices(`masks of every kind do what is gone does, ${kind} router`, (device) =>
    withModel(variant, async (model, sequences) => {
      const { config, layers } = model, [{ index, block }] = moeLayers(model), layer = layers.find((l) => l.index === index)!;
      const at = layers.indexOf(layer), with_ = (changed: DecoderLayer) => ({ ...model, layers: layers.with(at, changed) });
      const networks = networksOf(layer),
        lose = (channels: number, n: number) => Array.from({ length: channels }, (_, i) => i).filter((i) => (i * 7 + n) % 3 === 0);
      const channels = networks.map(({ of, id, channels }, n) => ({ of, ...(id === undefined ? {} : { id }), drop: lose(channels, n) }));
      const groups = groupsOf(config, layer.attention), size = layer.attention["o_proj.weight"].shape[1] / groups;
      const ids = block.experts.map(({ id }) => id), drop = [ids[1], ids.at(-1)!];
      const nameOf = ({ of, id }: (typeof channels)[number]) => of === "expert" ? `experts/${id}/down` : `${of}/down`;
      const plans: Record<string, [StructurePlan, Model]> = {
        nothing: [{ layers: [] }, model],
        experts: [{ layers: [{ layer: index, experts: drop }] }, pruneExperts(model, { layers: [{ layer: index, drop }] })],
        channels: [
          { layers: [{ layer: index, channels }] },
          with_(await zeroed(layer, Object.fromEntries(channels.map((lost) => [nameOf(lost), (j: number) => lost.drop.includes(j)])))),
        ],
        "a group": [
          { layers: [{ layer: index, groups: [groups - 1] }] },
          with_(await zeroed(layer, { "attention/o_proj": (j) => j >= (groups - 1) * size })),
        ],
        "all groups": [
          { layers: [{ layer: index, groups: Array.from({ length: groups }, (_, i) => i) }] },
          with_(await zeroed(layer, { "attention/o_proj": () => true })),
        ],
        "all experts": [
          { layers: [{ layer: index, experts: ids }] },
          with_(await zeroed(layer, Object.fromEntries(ids.map((id) => [`experts/${id}/down`, () => true])))),
        ],
      };
      if (layers.length > 2) {
        plans["a layer"] = [{ layers: [{ layer: layers[1].index, whole: true }] }, mergeLayers(model, [{ keep: 0, absorb: 1, ratio: 1 }])];
      }
      const cases = Object.entries(plans), got = await maskedLosses(device, model, sequences, cases.map(([, [plan]]) => plan));
      for (const [k, [what, [, gone]]] of cases.entries()) {
        assertClose([got[k]], [await lossOf(device, gone, sequences)], 2e-6, what);
        if (k > 0) assert(Math.abs(got[k] / got[0] - 1) > 1e-5, `${what} changes nothing`);
      }
      const alone = await maskedLosses(device, model, sequences, [cases[2][1][0]]);
      assertEquals(alone[0], got[2], "a loss depends on the plans beside it");
    }));
}

Deno.test("plans that do not fit are refused in a sentence", async () => {
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    const { openDevice } = await import("../../lib/device/open_device.ts");
    using device = await openDevice({ kind: "cpu" });
    const [{ index }] = moeLayers(model), dense = model.layers.find(({ block }) => block.kind === "dense")!.index;
    const cases: [StructurePlan["layers"][number], string][] = [
      [{ layer: 99 }, "Cannot mask structures layer 99"],
      [{ layer: index, experts: [77] }, "it has no expert 77"],
      [{ layer: dense, experts: [0] }, "it has no expert 0"],
      [{ layer: index, experts: [1, 1] }, "expected rising numbers"],
      [{ layer: index, groups: [50] }, "it has no attention group 50"],
      [{ layer: index, channels: [{ of: "dense", drop: [0] }] }, 'it has no network "dense"'],
      [{ layer: index, channels: [{ of: "expert", id: 0, drop: [4000] }] }, "it has no channel of expert 0 4000"],
    ];
    for (const [entry, message] of cases) {
      await assertRejects(() => maskedLosses(device, model, sequences, [{ layers: [entry] }]), RangeError, message);
    }
    await assertRejects(() => maskedLosses(device, model, [Uint32Array.of(1)], [{ layers: [] }]), RangeError, "no token to predict");
  });
});
