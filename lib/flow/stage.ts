/**
 * What a stage is.
 *
 * @module
 */

import type { FileType } from "../checkpoint/file_type.ts";
import type { Device, TensorSource } from "../device/device.ts";
import type { StageOptions } from "../model/stage_options.ts";

/** A stage by its name, with the type of its result. It holds no data: the definition last given under the name counts. */
export interface Stage<T> {
  readonly name: string;
  /** The result's type; never there at run time. */
  readonly result?: T;
}

/** Stages by the names under which a stage's function gets their results. */
export type Inputs = Readonly<Record<string, Stage<unknown>>>;

/** The results of inputs. */
export type Results<I extends Inputs> = { readonly [K in keyof I]: I[K] extends Stage<infer T> ? T : never };

/** What a stage's function gets beside inputs and options. Pass it on as (part of) the options of a pipeline function. */
export interface StageContext extends StageOptions {
  readonly device: Device;
  /**
   * A folder of this stage and key that outlives a stop or a kill, and goes when the stage is done: for functions that keep their own state, such as
   * `finetune`. Stages that are not stored have none.
   */
  readonly folder: string;
  /** Shows something while the stage runs, such as a loss curve as it grows. */
  emit(value: unknown): void;
}

/** A computation around a pure function. */
export interface StageDefinition<I extends Inputs, O, T> {
  /** To be raised whenever the same inputs and options give another result than before. */
  readonly version: number;
  readonly inputs?: I;
  /** Plain data, as it is when the stage is defined. All of it is part of the key; `seed`, if there is one, is noted in the manifest. */
  readonly options?: O;
  /** WGSL that the result depends on: the texts themselves. */
  readonly kernels?: readonly string[];
  /** How the result is put on disk. @default plain data, with typed arrays */
  readonly codec?: Codec<T>;
  /**
   * Whether the result is kept on disk. What is not must be quick: it is computed whenever it is needed. If it can be disposed of, it is computed once, and
   * disposed of with the flow. @default true
   */
  readonly stored?: boolean;
  readonly run: (inputs: Results<I>, options: O, context: StageContext) => T | Promise<T>;
}

/** A result on its way to the disk and back. */
export interface Encoded {
  /** What JSON can hold. */
  readonly json: unknown;
  /** Arrays by name. They are read one by one, when they are written and when they are asked for. */
  readonly arrays: ReadonlyMap<string, StoredArray>;
}

/** An array that need not be in memory: a weight, or numbers of another type. */
export interface StoredArray extends Omit<TensorSource, "dtype"> {
  readonly dtype: FileType;
  /** Fills `into` with whole rows (entries of the first dimension) from row `first` on: for arrays that are too large to be held. */
  readSlice?(first: number, into: Uint8Array): Promise<void>;
}

/** An array in a file, of which rows can be read. */
export interface FiledArray extends StoredArray {
  /** Fills `into` with rows (entries of the first dimension), rising and distinct. */
  readRows(rows: Uint32Array, into: Uint8Array): Promise<void>;
  readSlice(first: number, into: Uint8Array): Promise<void>;
}

/** A result on its way back. */
export interface Filed {
  readonly json: unknown;
  readonly arrays: ReadonlyMap<string, FiledArray>;
}

/** The result of an input, by its name: what it holds already need not be stored again. */
export type InputOf = (name: string) => Promise<unknown>;

/** How a result is put on disk. */
export interface Codec<T> {
  /** Of the layout; part of the key. */
  readonly name: string;
  /**
   * Whether all who ask may have the same decoded value, because nobody would change it. Else everybody gets a copy: what one does to it is not
   * what another one computes with. @default false
   */
  readonly shared?: boolean;
  encode(value: T, input: InputOf): Encoded | Promise<Encoded>;
  decode(encoded: Filed, input: InputOf): T | Promise<T>;
}
