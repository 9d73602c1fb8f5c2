/**
 * How much of each kind of linear is kept.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { Model } from "../model/model.ts";

/** Kinds of linears that share a ratio: projections to queries and keys, the attention's output, and an expert's three matrices. */
export const ROLES = ["qk", "o", "gate", "up", "down"] as const;

export type Role = typeof ROLES[number];

/** Share of the numbers of each kind of linear that its factors have, above 0; from 1 on it stays dense. */
export type LinearRatios = Record<Role, number>;

/** Ratios of every decoder layer. */
export interface RatioPlan {
  layers: ({ layer: number } & LinearRatios)[];
}

/** By names of projections. Those to values stay dense (Bolaco, section 4.1): latent attention makes them with `kv_b_proj`. */
const PROJECTIONS: Readonly<Record<string, Role>> = {
  "q_proj": "qk",
  "k_proj": "qk",
  "q_a_proj": "qk",
  "q_b_proj": "qk",
  "kv_a_proj_with_mqa": "qk",
  "o_proj": "o",
};

/** The kind of a linear by its name, such as "attention/q_proj" or "experts/3/down"; undefined for one that stays as it is. */
export function roleOf(linear: string): Role | undefined {
  const [group, ...rest] = linear.split("/");
  if (group === "attention" && rest.length === 1) return PROJECTIONS[rest[0]];
  return group === "experts" && rest.length === 2 ? ROLES.find((role) => role === rest[1]) : undefined;
}

/**
 * The ratios of each layer, by its index.
 *
 * @param ratios One for all, one for each kind, or those of each layer.
 * @throws {TypeError} If these are no ratios.
 * @throws {RangeError} If one is out of range, or layers are missing.
 */
export function ratiosOf(
  model: Pick<Model, "layers">,
  ratios: number | LinearRatios | RatioPlan,
  purpose: string,
): Map<number, LinearRatios> {
  const what = 'a ratio, one for each of "qk", "o", "gate", "up" and "down", or a plan that lists "layers" with those';
  const checked = (given: LinearRatios, where: string): LinearRatios => {
    for (const role of ROLES) {
      const value = given[role];
      expect(typeof value === "number", purpose, `${what}, a number as "${role}"${where}`, value);
      if (!(value > 0 && value < Infinity)) {
        throw new RangeError(`Cannot ${purpose}: the ratio "${role}"${where} must be above 0 and finite, received ${value}`);
      }
    }
    return given;
  };
  if (typeof ratios === "number") {
    return ratiosOf(model, Object.fromEntries(ROLES.map((role) => [role, ratios])) as LinearRatios, purpose);
  }
  expect(typeof ratios === "object" && ratios !== null, purpose, what, ratios);
  if (!("layers" in ratios)) {
    const all = checked(ratios, "");
    return new Map(model.layers.map(({ index }) => [index, all]));
  }
  const listed = new Map(expectLayers(ratios, what, purpose).map((entry) => [entry.layer, checked(entry, ` of layer ${entry.layer}`)]));
  const missing = model.layers.find(({ index }) => !listed.has(index));
  if (missing) throw new RangeError(`Cannot ${purpose}: the plan has no ratios of layer ${missing.index}`);
  return listed;
}
