import { assert } from "@std/assert";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { finetune, type FinetuneOptions } from "../../lib/finetune/finetune.ts";
import type { Model } from "../../lib/model/model.ts";
import { withModel } from "../small_models.ts";

/** Most bytes alive on a device after any of its operations. */
async function peakOf(run: (device: Device) => Promise<unknown>): Promise<number> {
  using device = await openDevice({ kind: "cpu" });
  let peak = 0;
  const note = () => void (peak = Math.max(peak, device.live.bytes));
  const watched = <T extends object>(operations: T): T =>
    new Proxy(operations, {
      get(target, name) {
        const value = (target as Record<string | symbol, unknown>)[name];
        if (name === "vjp") return watched(value as object);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          const result = value.apply(target, args);
          if (result instanceof Promise) return result.finally(note);
          note();
          return result;
        };
      },
    });
  await run(watched(device));
  return peak;
}

/** The peak of a training step over 96 tokens in two batches. */
async function peakOfStep(layers: number, residentBytes: number): Promise<{ peak: number; model: Model }> {
  let found: { peak: number; model: Model } | undefined;
  const options: FinetuneOptions = { rank: 1, targets: ["attention"], epochs: 1, batch: 3, residentBytes };
  await withModel("qwen3_moe, YaRN", async (model) => {
    const encode = (text: string) => Uint32Array.from(text, (character) => character.charCodeAt(0) % 96);
    const small = { ...model, tokenizer: { encode, decode: () => "", bos: 0, addsBos: true } };
    const examples = ["abc", "bca", "cab"].map((text) => text.repeat(11).slice(0, 31));
    found = { peak: await peakOf((device) => finetune(device, small, examples, options)), model };
  }, { num_hidden_layers: layers });
  return found!;
}

Deno.test("finetune() holds one layer and the residual stream at a time, however many layers there are", async () => {
  const few = await peakOfStep(3, 0), many = await peakOfStep(15, 0), { hidden } = many.model.config, tokens = 96;
  // Beside its input, a further layer has its adapters: value, gradient and two moments of down and up of four projections.
  const projections = Object.values(many.model.layers[0].attention).filter(({ shape }) => shape.length === 2);
  const adapters = projections.reduce((n, { shape: [rows, columns] }) => n + rows + columns, 0);
  const further = (many.peak - few.peak) / 12, allowed = 4 * tokens * hidden + 4 * 4 * adapters;
  assert(further <= 1.05 * allowed, `a further layer takes ${further} bytes, its input and adapters have ${allowed}`);

  // What is left out so: its weights, and the activations of the way there.
  const [keptFew, keptMany] = [await peakOfStep(3, Infinity), await peakOfStep(15, Infinity)];
  const kept = (keptMany.peak - keptFew.peak) / 12;
  assert(kept > 5 * further, `a layer that is kept takes ${kept} bytes, one that is run again ${further}`);
});
