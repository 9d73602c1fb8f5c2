import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { readRecord } from "../../lib/export/read_record.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { describedModel } from "../../lib/model/described_model.ts";
import { logits } from "../../lib/model/logits.ts";
import type { Model } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { assertClose, devices, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";
import { factored, multipliedOut, silenced, sliced } from "./model_forms.ts";

const FORMS: Record<string, { make(model: Model): Model | Promise<Model>; plain(model: Model): Model | Promise<Model> }> = {
  "heads and channels are lost": { make: sliced, plain: silenced },
  "attention and experts are products of factors with biases": { make: factored, plain: multipliedOut },
  "both is so": { make: async (model) => await factored(sliced(model)), plain: async (model) => await multipliedOut(sliced(model)) },
};

/** Runs a model and what it should be equal to. */
async function compare(device: Device, got: Model, want: Model, ids: Uint32Array): Promise<void> {
  const [found, wanted] = [await logits(device, got, ids), await logits(device, want, ids)];
  assert(wanted.some((v) => Math.abs(v) > 1), "logits are not all small");
  assertClose(found, wanted, 1e-4);
}

for (const name of Object.keys(references)) {
  for (const [form, { make, plain }] of Object.entries(FORMS)) {
    testOnDevices(`${name} where ${form} gives what the same dense model gives`, async (device) => {
      const { model, calibration } = await openFixture(name), ids = calibration[0].subarray(0, 24);
      await compare(device, await make(model), await plain(model), ids);
      const whole = await logits(device, model, ids), got = await logits(device, await make(model), ids);
      assert(whole.some((v, i) => Math.abs(v - got[i]) > 0.1), "what is changed has an effect");
    }, name === "tiny-mixtral" || form === "both is so" ? devices : fastDevices);
  }
}

for (const [form, { make }] of Object.entries(FORMS)) {
  Deno.test(`saveModel() keeps a model where ${form}, in its own size, and openModel() opens it`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      using device = await openDevice({ kind: "cpu" });
      for (const name of Object.keys(references)) {
        const { model, calibration } = await openFixture(name), formed = await make(model), path = `${folder}/${name}`;
        const saved = await saveModel(formed, path, { dtype: "F32" }), again = await openModel(path);
        assertEquals(saved.form, "remote-code");
        assertEquals(await logits(device, again, calibration[0]), await logits(device, formed, calibration[0]));
        const { bytes, total } = countParameters(again), file = await Deno.readFile(`${path}/model.safetensors`);
        assertEquals(file.length - 8 - Number(new DataView(file.buffer).getBigUint64(0, true)), bytes);
        assertEquals(total, countParameters(formed).total);
        assert(total < countParameters(model).total);
        assertEquals(countParameters(describedModel(again.config.raw)), countParameters(again));
        const record = await readRecord(path);
        assert(record.parts!.length > 0 && record.forms!.length > 0);
        await assertRejects(() => saveModel(formed, `${path} native`, { form: "native" }), Error, 'use the form "remote-code"');
        const stored = await saveModel(again, `${path} again`), third = await openModel(stored.path);
        assertEquals(countParameters(third).total, total);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
