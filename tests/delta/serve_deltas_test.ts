import { assert, assertEquals, assertRejects } from "@std/assert";
import { BYTES } from "../../lib/device/device.ts";
import { applyDelta } from "../../lib/delta/apply_delta.ts";
import { bitDelta } from "../../lib/delta/bit_delta.ts";
import { compressDelta } from "../../lib/delta/compress_delta.ts";
import { serveDeltas } from "../../lib/delta/serve_deltas.ts";
import { logits } from "../../lib/model/logits.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { assertClose, devices, fastDevices, testOnDevices } from "../devices.ts";
import { ROUTERS, withModel } from "../small_models.ts";
import { tunedBy } from "./tuned.ts";

const SPLIT = [[8, 2], [3, 4], [2, 3]] as const;

/** A software GPU takes a quarter of a minute for each model, so that two run everywhere. */
const VARIANTS = {
  [ROUTERS["renormalising"]]: devices,
  [ROUTERS["not renormalising"]]: fastDevices,
  [ROUTERS["group-limited, scaled"]]: fastDevices,
  "qwen2_moe, old spellings": fastDevices,
  "olmoe, renormalised, biased": devices,
};

for (const [variant, on] of Object.entries(VARIANTS)) {
  testOnDevices(
    `models that are served over one base give the logits of those that are put together: ${variant}`,
    (device) =>
      withModel(variant, async (base, sequences) => {
        const [one, two] = [await tunedBy(base, 0.05, 1), await tunedBy(base, 0.05, 1000)];
        const deltas = {
          one: await compressDelta(device, base, one, sequences, { alpha: 100, split: SPLIT }),
          two: await compressDelta(device, base, two, [], { alpha: 100, split: [[16, 9]] }),
          none: await compressDelta(device, base, one, [], { split: [[16, 0]] }),
        };
        const wanted = [["one", 0], ["two", 0], ["one", 2], ["none", 3]] as const, want: Float32Array[] = [];
        for (const [name, s] of wanted) want.push(await logits(device, applyDelta(base, deltas[name]), sequences[s]));
        assert(want[0].some((value, i) => Math.abs(value - want[1][i]) > 1e-2), "the models differ");
        assertEquals(device.live.tensors, 0);
        const matrices = base.layers.flatMap((layer) =>
          linearsOf(layer).map(({ weight: { shape, dtype } }) => shape[0] * shape[1] * BYTES[dtype])
        );
        const least = matrices.reduce((a, b) => a + b, 0), { head: { shape, dtype }, config: { hidden } } = base;
        const held = (bytes: number) => device.kind === "webgpu" ? 256 * Math.ceil(bytes / 256) : bytes; // sizes of buffers
        const ends = held(shape[0] * shape[1] * BYTES[dtype]) + held(4 * hidden);
        const factors = deltas.one.linears.reduce((n, { shape: [rows, columns] }) => n + 4 * 9 * (rows + columns), 0);
        for (const resident of [true, false]) {
          using server = await serveDeltas(device, base, deltas, { resident });
          const got = await server.logits(wanted.map(([model, s]) => ({ model, sequence: sequences[s] })));
          got.forEach((values, i) => assertClose(values, want[i], 2e-4, `request ${i}`));
          // The base's matrices are there once, in the type that they have.
          const { bytes: { base: shared, models, layer } } = server;
          assertEquals(device.live.bytes, Object.values(models).reduce((a, b) => a + b, shared));
          assert(shared >= least && shared < 1.2 * least + 4096, `${shared} bytes of the base, its matrices are ${least}`);
          if (resident) assert(layer === 0 && models.one <= factors + ends + shared / 4, `${models.one} bytes of a model`);
          else {
            // A device may round sizes up to a page of its own.
            for (const bytes of Object.values(models)) {
              assert(bytes >= ends && bytes <= ends + 1024, `${bytes} bytes of a model, its ends are ${ends}`);
            }
            assert(layer > factors / 4 && layer < factors, `${layer} bytes of a layer, ${factors} are those of all factors`);
          }
        }
      }),
    on,
  );
}

testOnDevices(
  "what cannot be served is refused, and nothing is left on the device",
  (device) =>
    withModel(ROUTERS.renormalising, async (base, [sequence]) => {
      const tuned = await tunedBy(base, 0.01), signs = await bitDelta(base, tuned);
      await assertRejects(() => serveDeltas(device, base, { signs }), Error, '"signs" is one of signs');
      const delta = await compressDelta(device, base, tuned, [], { split: [[16, 1]] });
      {
        using server = await serveDeltas(device, base, { delta });
        await assertRejects(() => server.logits([{ model: "other", sequence }]), RangeError, 'no model "other" is served, there are delta');
        await assertRejects(() => server.logits([{ model: "delta", sequence: Uint32Array.of(1e6) }]), RangeError, "but the vocabulary has");
        const stopped = AbortSignal.abort(new Error("enough"));
        await assertRejects(() => server.logits([{ model: "delta", sequence }], { signal: stopped }), Error, "enough");
      }
      await assertRejects(() => serveDeltas(device, base, { delta }, { signal: AbortSignal.abort(new Error("enough")) }), Error, "enough");
    }),
);
