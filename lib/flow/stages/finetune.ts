/**
 * Ready definitions of stages: fine-tuning.
 *
 * @module
 */

import { TRAINING } from "../../device/kernel_texts.ts";
import type { Example } from "../../finetune/examples.ts";
import { finetune, type FinetuneOptions } from "../../finetune/finetune.ts";
import type { Model } from "../../model/model.ts";
import { tunedCodec } from "../model_codec.ts";
import { around, control, type Plain } from "./around.ts";

export const finetuneStages = {
  /** Emits the loss curve so far after every step. */
  finetune: around(
    { version: 2, kernels: TRAINING, codec: tunedCodec },
    (
      { model, examples, teacher }: { model: Model; examples: readonly Example[]; teacher?: Model },
      options: Plain<typeof finetune, "teacher" | "onStep" | "checkpoint">,
      context,
    ) => {
      const onStep: FinetuneOptions["onStep"] = (_, history) => context.emit([...history]);
      return finetune(context.device, model, examples, { ...options, teacher, checkpoint: context.folder, onStep, ...control(context) });
    },
  ),
};
