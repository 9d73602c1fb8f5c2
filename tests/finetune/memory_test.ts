import { assert } from "@std/assert";
import { matrixParts } from "../../lib/device/matrix_parts.ts";
import { finetune, type FinetuneOptions } from "../../lib/finetune/finetune.ts";
import type { Model } from "../../lib/model/model.ts";
import { peakOf } from "../peak_of.ts";
import { withModel } from "../small_models.ts";

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
  const projections = Object.values(many.model.layers[0].attention).flatMap(matrixParts).filter(({ shape }) => shape.length === 2);
  const adapters = projections.reduce((n, { shape: [rows, columns] }) => n + rows + columns, 0);
  const further = (many.peak - few.peak) / 12, allowed = 4 * tokens * hidden + 4 * 4 * adapters;
  assert(further <= 1.05 * allowed, `a further layer takes ${further} bytes, its input and adapters have ${allowed}`);

  // What is left out so: its weights, and the activations of the way there.
  const [keptFew, keptMany] = [await peakOfStep(3, Infinity), await peakOfStep(15, Infinity)];
  const kept = (keptMany.peak - keptFew.peak) / 12;
  assert(kept > 5 * further, `a layer that is kept takes ${kept} bytes, one that is run again ${further}`);
});
