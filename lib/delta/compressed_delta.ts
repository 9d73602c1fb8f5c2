/**
 * What is kept of a tuned model beside its base.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import { expect } from "../model/expect.ts";
import type { RowSource } from "../model/model.ts";
import type { FactorMatrix } from "./factor_matrix.ts";

/** Some components of a difference's singular value decomposition, of as many bits: left · diag(singularValues) · right. */
export interface ComponentGroup {
  /** `[rows, components]` */
  left: FactorMatrix;
  /** Falling, in the groups together; numbers that float16 holds, unless the factors are float32. */
  singularValues: Float32Array;
  /** `[components, columns]` */
  right: FactorMatrix;
}

/** A difference of one size everywhere: ± scale. */
export interface Signs {
  /** One bit a number, row-major, the lowest first; set where it is negative. */
  negative: Uint32Array;
  scale: number;
}

/** The difference of one linear. */
export interface DeltaLinear {
  /** Index of the decoder layer. */
  layer: number;
  /** Within its layer, such as "attention/q_proj" or "experts/3/gate". */
  linear: string;
  shape: [rows: number, columns: number];
  /** What it is made of. */
  form: ComponentGroup[] | Signs;
  /** Tokens that it met in calibration; null where none were needed. */
  tokens: number | null;
  /** ‖tuned - base‖, Frobenius. */
  norm: number;
  /** ‖tuned - (base + this difference)‖, Frobenius. */
  error: number;
}

/** A tuned model as differences from its base. */
export interface CompressedDelta {
  /** Fingerprint of the model that it was taken from: it is a difference from no other. */
  base: string;
  /** Of all linears, in the order of the layers. */
  linears: DeltaLinear[];
  /** All other weights of the tuned model, as they are, by their place, such as "embedding" or "2/router". Read when they are needed. */
  rest: ReadonlyMap<string, TensorSource | RowSource>;
}

/** @throws {TypeError} If it is none. */
export function expectDelta(delta: CompressedDelta, purpose: string): void {
  const good = typeof delta?.base === "string" && Array.isArray(delta.linears) &&
    delta.linears.every((linear) => Array.isArray(linear?.shape) && isForm(linear.form)) &&
    delta.rest instanceof Map;
  expect(good, purpose, "a difference from compressDelta(), bitDelta() or openDelta()", delta);
}

function isForm(form: DeltaLinear["form"]): boolean {
  if (!Array.isArray(form)) return form?.negative instanceof Uint32Array && typeof form.scale === "number";
  return form.every((group) => group?.singularValues instanceof Float32Array && isFactor(group.left) && isFactor(group.right));
}

function isFactor(factor: FactorMatrix): boolean {
  if (typeof factor !== "object" || factor === null) return false;
  if ("values" in factor) return factor.values instanceof Float32Array;
  return factor.scales instanceof Float32Array && [factor.codes, factor.zeros].every((words) => words instanceof Uint32Array);
}

/** Where a linear is, for whoever looks for it. */
export const placeOf = ({ layer, linear }: Pick<DeltaLinear, "layer" | "linear">): string => `${layer}/${linear}`;
