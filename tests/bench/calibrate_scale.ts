/** Calibration passes over checkpoints of growing depth: time, and peak memory of a process that does nothing else. */

import { fileURLToPath } from "node:url";
import { tensorBytes } from "../../lib/checkpoint/write_safetensors.ts";
import type { Device } from "../../lib/device/device.ts";
import type { Sequences } from "../../lib/model/batch.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { tokenIds } from "../numbers.ts";
import { benchCheckpoint } from "./checkpoint.ts";
import { decoderWork } from "./decoder_work.ts";
import type { Prepared, Scale } from "./row.ts";

const BATCH = 4, LENGTH = 256;

export function calibrationTokens(vocabulary: number): Sequences {
  const ids = tokenIds("calibrate.tokens", BATCH * LENGTH, vocabulary);
  return Array.from({ length: BATCH }, (_, i) => ids.subarray(i * LENGTH, (i + 1) * LENGTH));
}

/**
 * Ours keeps every layer's MoE inputs and counts of tokens; the peers keep counts, and end with the logits. The check is the mean loss of a token, which
 * calibration has no use for: ours comes from a second walk over the same layers, outside of time and peak.
 */
export async function calibrateScale(device: Device, folder: string, scale: Scale, layers: number): Promise<Prepared> {
  await benchCheckpoint(folder, scale, layers);
  const model = await openModel(folder), { weights, attention, bytes } = decoderWork(model, Array(BATCH).fill(LENGTH));
  const head = 2 * BATCH * LENGTH * model.head.shape[0] * model.head.shape[1], flops = weights + attention - head;
  const args = ["run", "-A", fileURLToPath(new URL("calibrate_scale_run.ts", import.meta.url)), folder, device.kind];
  return {
    round: async () => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
      if (code !== 0) throw new Error(`The calibration pass failed: ${new TextDecoder().decode(stderr).trim()}`);
      const { seconds, peakBytes, check } = JSON.parse(new TextDecoder().decode(stdout));
      const work = { flops, bytes: bytes - tensorBytes(model.head) };
      return {
        parts: [{ unit: "walk", seconds: [seconds], work, beside: "seconds" }],
        ...{ check, peakBytes },
        notes: [
          `In the walk of ${layers} layers the peers also multiply by the head, ${(100 * head / flops).toFixed(1)} % more operations: ` +
          `calibration has no use for logits.`,
        ],
      };
    },
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}
