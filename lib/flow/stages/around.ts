/**
 * What a ready definition of a stage is made of.
 *
 * @module
 */

import { isObject } from "../../checkpoint/parse_json_object.ts";
import { expect } from "../../model/expect.ts";
import { expectOptions } from "../../model/expect_stage.ts";
import type { StageOptions } from "../../model/stage_options.ts";
import type { Stage, StageContext, StageDefinition } from "../stage.ts";

/** Options that are plain data: what a function is told beside its inputs. */
export type Plain<F extends (...args: never[]) => unknown, N extends string = never> = Omit<
  NonNullable<Parameters<F> extends [...unknown[], infer O] ? O : Required<Parameters<F>> extends [...unknown[], infer O] ? O : never>,
  keyof StageOptions | N
>;

/** Stages whose results a function takes. */
export type StagesOf<V> = { readonly [K in keyof V]: Stage<Exclude<V[K], undefined>> };

/** A function that is given the stages it takes, and options, and gives a definition for `stage()`. */
export type Ready<V, O, T> = (inputs: StagesOf<V>, options?: O) => StageDefinition<StagesOf<V> & Record<string, Stage<unknown>>, O, T>;

/** Wraps a function of the pipeline. `V` are the results it takes, by name. */
export function around<V extends object, O extends object, T>(
  about: Pick<StageDefinition<never, O, T>, "version" | "kernels" | "codec" | "stored">,
  run: (inputs: V, options: O, context: StageContext) => T | Promise<T>,
): Ready<V, O, T> {
  return ((inputs: StagesOf<V>, options = {} as O) => {
    expect(isObject(inputs), "define a stage", "the stages that it takes, by name", inputs);
    expectOptions(options, "define a stage");
    const given = Object.fromEntries(Object.entries(inputs).filter(([, stage]) => stage !== undefined));
    return { ...about, inputs: given, options, run };
  }) as Ready<V, O, T>;
}

/** What of the context goes on into options. */
export const control = ({ signal, onProgress, resume }: StageContext): StageOptions => ({ signal, onProgress, resume });
