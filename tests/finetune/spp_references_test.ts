/** SPP on sparse fixtures against PyTorch. */

import { assert, assertEquals } from "@std/assert";
import type { Device, Tensor, TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { adamStep } from "../../lib/finetune/adam_step.ts";
import { type Adapters, createAdapters } from "../../lib/finetune/adapters.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import { mergeAdapters } from "../../lib/finetune/merge_adapters.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import { checkedRecipe, SPP_RECIPE } from "../../lib/finetune/recipe.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { Model } from "../../lib/model/model.ts";
import { countZeros } from "../../lib/sparsify/count_zeros.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import { assertClose, devices, fastDevices, full, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { golden } from "../golden.ts";
import { SPP_REFERENCES } from "../references/spp.ts";
import { zeroChanges } from "../../notebooks/zero_changes.ts";

const gpuToo = { ...fastDevices, ...(devices.webgpu ? { webgpu: devices.webgpu } : {}) };

/** A software GPU in an ordinary run: a pass over all calibration tokens takes it many seconds. */
const isSlow = ({ kind }: Device) => kind === "webgpu" && !("webgpu" in fastDevices);

/** Of thirty steps; all of them for one fixture, for the others in `task test:full`. */
function stepsOn(device: Device, name: string): number {
  const first = name === "tiny-mixtral";
  return isSlow(device) ? first ? 1 : 0 : full || first ? 30 : 3;
}

const numbers = (length: number, seed: number, factor = 1) => Float32Array.from(golden(length, seed), (v) => factor * v);
const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, v) => sum + v ** 2, 0));

for (const [name, reference] of Object.entries(SPP_REFERENCES)) {
  testOnDevices(`SPP of ${name} is that of PyTorch`, async (device, test) => {
    const { model, calibration, heldOut } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    using stack = new DisposableStack();
    const maker = isSlow(device) ? stack.use(await openDevice({ kind: "cpu" })) : device;
    using sparse = await sparsify(maker, model, calibration, { carrier: "wanda", sparsity: 0.5 });
    const { zeros } = await countZeros(sparse);
    assertEquals(zeros, reference.zeros);

    await test.step("a linear and its gradients", async () => {
      const { rank, y, yNorm, toDown, downNorm, toUp, upNorm } = reference.linear,
        weight = sparse.layers[0].attention["q_proj.weight"] as TensorSource;
      const [out, columns] = weight.shape;
      using W = await device.load(weight);
      assertEquals((await widened(device, W)).filter((v) => v === 0).length, reference.linear.zeros);
      using x = device.tensor(numbers(4 * columns, 21), [4, columns]);
      using g = device.tensor(numbers(4 * out, 22), [4, out]);
      using a = device.tensor(numbers(rank * columns, 23, 0.5), [rank, columns]);
      using b = device.tensor(numbers(out, 24, 0.5), [out, 1]);
      const stack = (tensor: Tensor, rows: number, width: number) => ({ tensor, shapes: [[rows, width]] as [number, number][] });
      const modulation = { down: stack(a, rank, columns), up: stack(b, out, 1), scale: 2, identity: true };
      using output = device.modulated(x, W, modulation);
      const { down, up } = device.vjp.modulation(g, x, W, modulation);
      using toA = down;
      using toB = up;
      for (const [tensor, first, size] of [[output, y, yNorm], [toA, toDown, downNorm], [toB, toUp, upNorm]] as const) {
        const values = await device.read(tensor);
        assertClose([norm(values)], [size], 1e-5);
        const rms = size / Math.sqrt(values.length);
        first.forEach((want, i) => assert(Math.abs(values[i] - want) < 1e-5 * Math.max(Math.abs(want), rms), `${values[i]}, not ${want}`));
      }
    });

    const { rank, alpha, targets } = checkedRecipe(SPP_RECIPE), kind = "spp";
    const adapters = createAdapters(sparse, { kind, rank, alpha, targets, seed: 0 });
    begin(sparse, adapters);
    const trainable = [...adapters.values.values()].reduce((sum, { length }) => sum + length, 0), steps = stepsOn(device, name);
    assertEquals(trainable, reference.trainable);
    if (steps === 0) return;
    const losses = await trained(device, sparse, adapters, calibration, steps);
    // A step changes the loss by 3e-4 at first, later by 1e-3.
    losses.forEach((loss, i) =>
      assert(Math.abs(loss - reference.losses[i]) < tolerance * 0.05, `loss ${i}: ${loss}, not ${reference.losses[i]}`)
    );
    const merged = mergeAdapters(sparse, adapters);
    assertEquals(await zeroChanges(sparse, merged), 0);
    assertEquals((await countZeros(merged)).zeros, reference.zeros);
    if (isSlow(device)) return;
    const before = (await perplexity(device, sparse, heldOut)).perplexity;
    assertClose([before], [reference.perplexity.before], tolerance, "perplexity");
    if (steps < 30) return;
    assertClose(
      [(await perplexity(device, merged, heldOut)).perplexity],
      [reference.perplexity.after],
      tolerance,
      "perplexity after training",
    );
  }, gpuToo);
}

async function widened(device: Device, weight: Tensor): Promise<Float32Array> {
  using wide = device.widen(weight);
  return await device.read(wide);
}

/** A of the i-th linear from seed 1000 + i, over √in; experts stand before what they share. */
function begin(model: Model, { values }: Adapters): void {
  let seed = 1000;
  const rest = (linear: string) => linear.startsWith("shared/") ? 1 : 0;
  for (const layer of model.layers) {
    const parts = new Map<string, Float32Array[]>();
    for (const { name, weight: { shape: [rows, columns] } } of linearsOf(layer).toSorted((a, b) => rest(a.name) - rest(b.name))) {
      const place = name.replace(/^experts\/\d+\/(.*)$/, "experts/$1/dense"), blocks = [16, 8, 4, 2, 1].find((r) => rows % r === 0)!;
      parts.set(place, [...parts.get(place) ?? [], numbers(blocks * columns, seed++, 1 / Math.sqrt(columns))]);
    }
    for (const [place, list] of parts) {
      values.get(`${layer.index}/${place}/down`)!.set(Float32Array.from(list.flatMap((part) => [...part])));
    }
  }
}

/** Losses before each of so many full-batch steps and after the last; the adapters are then the trained ones. */
async function trained(device: Device, model: Model, adapters: Adapters, sequences: Uint32Array[], steps: number): Promise<number[]> {
  using parameters = new Parameters(device, model, adapters, checkedRecipe(SPP_RECIPE).targets);
  await using store = new LayerStore(device, model, Infinity);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const losses: number[] = [], batches = batchSequences(model.config, sequences, 1024);
  for (let step = 1; step <= steps + 1; step++) {
    const { loss } = await lossGradients(device, model, batches, {
      ...{ norm, head, keep: true, load: (layer) => store.load(layer) },
      adapters: (layer, weights) => parameters.adapters(layer, weights, { rate: 0, seed: () => 0 }),
      leaves: (layer) => step > steps ? [] : parameters.tensors(layer),
      collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
    });
    losses.push(loss);
    if (step <= steps) await adamStep(device, parameters, Infinity, { learningRate: 4e-3, weightDecay: 0, step });
  }
  for (const [name, { value }] of parameters.all) adapters.values.get(name)!.set(await device.read(value));
  return losses;
}
