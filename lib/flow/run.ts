/**
 * One run of a stage, with all that it takes.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { StageOptions } from "../model/stage_options.ts";
import type { Scope } from "./resolve.ts";

/** How a stage is run. */
export interface RunOptions extends Omit<StageOptions, "resume"> {
  /** Also run inputs that are not fresh, whatever they cost. @default false */
  upstream?: boolean;
  /** Whether results may be computed. If not, what is not in the store is an error: for displays, which must not cost anything. @default true */
  compute?: boolean;
  /** Called with what the stage tells of itself while it runs. */
  emit?: (value: unknown) => void;
  /** Called with the name of each stage that had to be computed and is now in the store, and the seconds that it took before this run went on with it. */
  onComputed?: (name: string, secondsBefore: number) => void;
}

/** A flow while one of its stages is run: later definitions do not count. */
export interface Run extends Scope {
  readonly device: Device;
  readonly options: RunOptions;
  readonly onWarning: (sentence: string) => void;
  /** The value under a key, if the flow has it in memory. */
  recall(name: string, key: string): { value: unknown } | undefined;
  remember(name: string, key: string, value: unknown): void;
  /** To be called when a result is there that was not there before. */
  changed(): void;
}

/** The run for what a stage takes: what that tells of itself is not what was asked for. */
export function runOfInputs(run: Run): Run {
  return { ...run, options: { ...run.options, emit: undefined } };
}

export function isDisposable(value: unknown): value is Disposable {
  return typeof value === "object" && value !== null && Symbol.dispose in value;
}
