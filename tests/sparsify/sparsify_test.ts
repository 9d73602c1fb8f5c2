import { assert, assertEquals, assertRejects } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import { stages } from "../../lib/flow/stages.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { countZeros } from "../../lib/sparsify/count_zeros.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import type { Carrier, SparsifyOptions } from "../../lib/sparsify/sparsify_options.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { folderOf, openFixture } from "../fixtures.ts";
import { withStore } from "../flow/flows.ts";
import { tokenIds } from "../numbers.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

const CARRIERS: Carrier[] = ["magnitude", "wanda", "moe-pruner", "sparsegpt"];

/** All linears of a model, read, by layer and name. */
async function weightsOf(model: Model): Promise<Map<string, { weight: TensorSource; values: Float32Array; columns: number }>> {
  const weights = new Map();
  for (const layer of model.layers) {
    for (const { name, weight } of linearsOf(layer)) {
      weights.set(`${layer.index} ${name}`, { weight, values: await readWide(weight), columns: weight.shape[1] });
    }
  }
  return weights;
}

const zerosIn = (values: Float32Array) => values.reduce((sum, value) => sum + (value === 0 ? 1 : 0), 0);

/** Every row, group or block of columns of a linear lost what it should, and by a mask what is left is as it was. */
function assertAmount(before: Float32Array, after: Float32Array, columns: number, { carrier, sparsity, pattern }: SparsifyOptions): void {
  const rows = after.length / columns, group = pattern && "n" in pattern ? pattern.m : carrier === "sparsegpt" ? rows * columns : columns;
  const count = pattern && "n" in pattern ? pattern.n : Math.floor(group * (sparsity as number)); // no linear here has more columns than a block
  for (let start = 0; start < after.length; start += group) assertEquals(zerosIn(after.subarray(start, start + group)), count);
  if (carrier !== "sparsegpt") assert(after.every((value, i) => value === 0 || value === before[i]), "what stays is as it was");
}

const SHAPES = [
  "olmoe, renormalised, biased",
  "qwen3_moe, YaRN",
  "deepseek_v2, query rank, limited groups, scaled",
  "qwen2_moe, old spellings",
];
for (const [i, variant] of SHAPES.entries()) {
  const amounts = [{ sparsity: 0.6 }, { pattern: { n: 1, m: 4 } }], all = i === 0;
  testOnDevices(`all linears of ${variant} lose exactly what they should`, (device) =>
    withModel(variant, async (model, sequences) => {
      const before = await weightsOf(model), { router } = moeLayers(model)[0].block;
      for (const carrier of device.kind === "cpu" && all ? CARRIERS : ["moe-pruner", "sparsegpt"] as Carrier[]) {
        for (const amount of all ? amounts : amounts.slice(i % 2, i % 2 + 1)) {
          using sparse = await sparsify(device, model, sequences.slice(0, 2), { carrier, ...amount });
          const after = await weightsOf(sparse);
          assertEquals(sparse.sparsification.length, after.size);
          for (const { layer, linear, entries, zeros, tokens } of sparse.sparsification) {
            const name = `${layer} ${linear}`, { values, columns } = after.get(name)!;
            assertAmount(before.get(name)!.values, values, columns, { carrier, ...amount });
            assertEquals([entries, zeros], [values.length, zerosIn(values)], name);
            assert(
              tokens === null ? carrier === "magnitude" : linear.startsWith("experts/") ? tokens <= 31 : tokens === 31,
              `${name}: ${tokens}`,
            );
          }
          assert(moeLayers(sparse)[0].block.router === router, "the router is as it was");
          assert((await logits(device, sparse, sequences[1])).every(Number.isFinite));
        }
      }
    }));
}

/** Norm of each input of an expert's gate projection, over its tokens, each times its share of the weights if `gated`. */
function normsOf({ inputs, weights }: Awaited<ReturnType<typeof routingOf>>, expert: number, gated: boolean): Float64Array {
  const squares = new Float64Array(inputs[0].length);
  for (const [t, x] of inputs.entries()) {
    const g = weights[t][expert] / weights[t].reduce((a, b) => a + b, 0);
    if (g > 0) x.forEach((value, d) => squares[d] += (gated ? g * value : value) ** 2);
  }
  return squares.map(Math.sqrt);
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `Wanda and MoE-Pruner take the lowest scores by the definition of routing, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const { index, block: { experts } } = moeLayers(model).at(-1)!,
          layers = model.layers.map(({ index: layer }) => ({
            layer,
            sparsity: layer === index ? 0.5 : 0,
          }));
        const routing = await routingOf(device, model, sequences, index);
        for (const carrier of ["wanda", "moe-pruner"] as const) {
          using sparse = await sparsify(device, model, sequences, { carrier, sparsity: { layers }, scope: "experts" });
          assert(
            sparse.layers[0].attention["o_proj.weight"] === model.layers[0].attention["o_proj.weight"],
            "what loses nothing is the same",
          );
          const after = await weightsOf(sparse), before = await weightsOf(model);
          for (const [e, { id }] of experts.entries()) {
            const norms = normsOf(routing, e, carrier === "moe-pruner"),
              seen = norms.some((norm) => norm > 0);
            const name = `${index} experts/${id}/gate`, { values, columns } = before.get(name)!, left = after.get(name)!.values;
            for (let start = 0; start < values.length; start += columns) {
              const scores = norms.map((norm, j) => Math.abs(values[start + j]) * (seen ? norm : 1)), sorted = scores.toSorted();
              const least = sorted.subarray(0, columns / 2).reduce((a, b) => a + b, 0);
              const gone = scores.reduce((sum, score, j) => left[start + j] === 0 ? sum + score : sum, 0);
              assertClose([gone], [least], device.kind === "cpu" ? 1e-5 : 1e-3, `${carrier}, row at ${start} of ${name}`);
            }
          }
        }
      }),
  );
}

Deno.test("MoE-Pruner is Wanda where all shares are equal: one expert a token", () =>
  withModel(ROUTERS.renormalising, async (model, sequences) => {
    using device = await openDevice({ kind: "cpu" });
    using one = await sparsify(device, model, sequences, { carrier: "moe-pruner" });
    using other = await sparsify(device, model, sequences, { carrier: "wanda" });
    const [a, b] = [await weightsOf(one), await weightsOf(other)];
    for (const [name, { values }] of a) assertEquals(values, b.get(name)!.values, name);
  }, { num_experts_per_tok: 1 }));

Deno.test("statistics add up over batches, whatever fits in one", () =>
  withModel(ROUTERS.renormalising, async (model) => {
    using device = await openDevice({ kind: "cpu" });
    const sequences = Array.from({ length: 140 }, (_, i) => tokenIds(`sparse.${i}`, 64, 96)); // 8,960 tokens, more than a batch
    for (const carrier of ["wanda", "sparsegpt"] as const) {
      const first = { ...model, layers: model.layers.slice(0, 1) };
      using one = await sparsify(device, first, sequences, { carrier });
      using other = await sparsify(device, first, sequences.toReversed(), { carrier }); // cut elsewhere
      const [got, want] = [await weightsOf(one), await weightsOf(other)];
      for (const [name, { values }] of got) assertClose(values, want.get(name)!.values, 1e-3, `${carrier}, ${name}`);
      assertEquals(one.sparsification[0].tokens, 8960);
    }
  }));

testOnDevices(
  "factors of low-rank experts are linears of their own",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      const [{ index, block: { experts } }] = moeLayers(model),
        some = experts.slice(0, 3).map(({ id }, i) => ({ expert: id, rank: 4 + 4 * (i % 2) }));
      using low = await decomposeExperts(device, model, { layers: [{ layer: index, experts: some, sum: 16, target: 16 }] });
      for (const carrier of device.kind === "cpu" ? CARRIERS : ["moe-pruner", "sparsegpt"] as Carrier[]) {
        const amount = { pattern: { n: 2, m: 4 } };
        using sparse = await sparsify(device, low, sequences, { carrier, ...amount });
        const before = await weightsOf(low), after = await weightsOf(sparse);
        assert(after.has(`${index} experts/${some[0].expert}/down/left`) && !after.has(`${index} experts/${some[0].expert}/down`));
        for (const [name, { values, columns }] of after) assertAmount(before.get(name)!.values, values, columns, { carrier, ...amount });
        assert((await logits(device, sparse, sequences[0])).every(Number.isFinite));
      }
      const dense = await logits(device, low, sequences[0]);
      using nothing = await sparsify(device, low, sequences, { carrier: "sparsegpt", sparsity: 0 });
      assertEquals(await logits(device, nothing, sequences[0]), dense);
    }),
);

Deno.test("a pruned model is made sparse by its experts' ids; an expert without tokens by its weights", () =>
  withModel(ROUTERS["group-limited, scaled"], async (model, [sequence]) => {
    using device = await openDevice({ kind: "cpu" });
    const [{ index }] = moeLayers(model), pruned = pruneExperts(model, { layers: [{ layer: index, drop: [0, 3] }] });
    using wanda = await sparsify(device, pruned, [sequence.slice(0, 2)], { carrier: "wanda" });
    using plain = await sparsify(device, pruned, [], { carrier: "magnitude" });
    const unseen = wanda.sparsification.filter(({ tokens }) => tokens === 0),
      [got, want] = [await weightsOf(wanda), await weightsOf(plain)];
    assert(unseen.length > 0 && !wanda.sparsification.some(({ layer, linear }) => layer === index && linear.startsWith("experts/0/")));
    for (const { layer, linear } of unseen) assertEquals(got.get(`${layer} ${linear}`)!.values, want.get(`${layer} ${linear}`)!.values);
  }));

Deno.test("zeros are the same in the checkpoint that is saved, and in the model that a stage keeps", async () => {
  const { calibration } = await openFixture("tiny-qwen2-moe"), tokens = calibration.slice(0, 2), folder = await Deno.makeTempDir();
  await withStore(async ({ open, device }) => {
    const define = async () => {
      const flow = await open(),
        model = await modelSource(flow, "model", folderOf("tiny-qwen2-moe")),
        ids = await source(flow, "ids", tokens);
      const outliers = flow.stage("outliers", stages.outlierDistribution({ model, tokens: ids }));
      const sparsity = flow.stage("sparsity", stages.owlSparsity({ outliers }, { sparsity: 0.7 }));
      const sparse = flow.stage("sparse", stages.sparsify({ model, tokens: ids, sparsity }, { carrier: "sparsegpt" }));
      return { flow, sparse, zeros: flow.stage("zeros", stages.countZeros({ model: sparse })) };
    };
    const first = await define(), zeros = await first.flow.run(first.zeros, { upstream: true });
    const second = await define(), kept = await second.flow.run(second.sparse);
    assertEquals(await countZeros(kept), zeros);
    assertEquals(kept.sparsification.reduce((sum, linear) => sum + linear.zeros, 0), zeros.zeros);
    using masked = await sparsify(device, kept, tokens, { pattern: { n: 2, m: 4 } });
    for (const [name, model] of Object.entries({ kept, masked })) {
      await saveModel(model, `${folder}/${name}`);
      const saved = await openModel(`${folder}/${name}`), before = await weightsOf(model);
      for (const [where, { weight, values }] of await weightsOf(saved)) {
        assertEquals(weight.dtype, "BF16");
        assertEquals(values.map((value) => value === 0 ? 0 : 1), before.get(where)!.values.map((value) => value === 0 ? 0 : 1), where);
      }
      assertEquals(await countZeros(saved), await countZeros(model));
    }
  });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("sparsify() says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    const cases: [SparsifyOptions, string][] = [
      [{ carrier: "luck" as never }, '"carrier" must be one of "magnitude", "wanda", "moe-pruner", "sparsegpt", received luck'],
      [{ scope: "head" as never }, '"scope" must be one of "all", "experts", received head'],
      [{ sparsity: 1 }, '"sparsity" must be at least 0 and below 1, received 1'],
      [{ sparsity: { layers: [{ layer: 0, sparsity: 0.5 }] } }, "the amounts are of other blocks, the model has one that is not listed: 1"],
      [{ sparsity: 0.5, pattern: { n: 2, m: 4 } }, '"sparsity" and "pattern" exclude each other'],
      [{ pattern: { n: 4, m: 4 } }, "n from 0 to m - 1, received n 4 and m 4"],
      [{ pattern: { n: 2, m: 7 } }, '"attention/q_proj" has 32 inputs, which is no multiple of the pattern\'s m, 7'],
      [
        { carrier: "sparsegpt", pattern: { n: 2, m: 4 }, blockSize: 6 },
        '"blockSize" must be a multiple of the pattern\'s m, 4, received 6',
      ],
      [{ carrier: "sparsegpt", damping: 0 }, '"damping" must be above 0 and finite, received 0'],
      [{ blockSize: 0.5 }, '"blockSize" must be a whole number of at least 1, received 0.5'],
    ];
    for (const [options, message] of cases) await assertRejects(() => sparsify(device, model, sequences, options), Error, message);
    await assertRejects(() => sparsify(device, model, []), RangeError, "Cannot sparsify: there are no tokens");
    const broken = { ...model.layers[1], attention: { ...model.layers[1].attention } },
      { shape } = broken.attention["k_proj.weight"] as TensorSource;
    broken.attention["k_proj.weight"] = { dtype: "F32", shape, read: (into) => Promise.resolve(void into.fill(255)) };
    await assertRejects(
      () => sparsify(device, { ...model, layers: [model.layers[0], broken] }, sequences, { carrier: "magnitude" }),
      RangeError,
      "Cannot sparsify layer 1, attention/k_proj: a weight is not finite",
    );
  });
});
