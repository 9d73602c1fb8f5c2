/**
 * Differences from named arrays.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { TensorSource } from "../device/device.ts";
import { type ComponentGroup, type CompressedDelta, type DeltaLinear, placeOf } from "./compressed_delta.ts";
import type { DeltaArray, DeltaRecord, FactorArray } from "./encode_delta.ts";
import { type FactorMatrix, groupBits } from "./factor_matrix.ts";

/**
 * What `encodeDelta` made of it, again. Other weights are read when they are needed.
 *
 * @param where For messages.
 * @throws {Error} If the record is malformed, or an array is missing or of another type or size.
 */
export async function decodeDelta(json: unknown, arrays: ReadonlyMap<string, DeltaArray>, where: string): Promise<CompressedDelta> {
  const { linears, rest } = expectRecord(json, where),
    fail = (why: string) => new Error(`Cannot open the difference in "${where}": ${why}`);
  const find = (name: string, dtype: DeltaArray["dtype"], size?: number): DeltaArray => {
    const array = arrays.get(name), found = array && array.shape.reduce((a, b) => a * b, 1);
    if (array?.dtype === dtype && (size === undefined || found === size)) return array;
    throw fail(
      `found ${array ? `"${name}" as ${array.dtype} [${array.shape}]` : `no "${name}"`}, expected ${dtype}${
        size === undefined ? "" : ` of ${size}`
      }`,
    );
  };
  const words = async (name: string, bits: number) => {
    const array = find(name, "U32", Math.ceil(bits / 32)), values = new Uint32Array(array.shape[0]);
    await array.read(new Uint8Array(values.buffer));
    return values;
  };
  const floats = async (name: string, bits: number, size?: number) =>
    await readWide(find(name, bits === 32 ? "F32" : "F16", size) as TensorSource);
  const factor = async (name: string, bits: number, rows: number, columns: number): Promise<FactorMatrix> => {
    const at = (array: FactorArray) => `${name}.${array}`;
    if (bits > 8) return { bits: bits as 16, rows, columns, values: await floats(at("values"), bits, rows * columns) };
    const scales = await floats(at("scales"), 16), groups = scales.length / rows;
    if (!(Number.isInteger(groups) && groups >= 1 && groups <= columns)) {
      throw fail(`"${at("scales")}" has ${scales.length} numbers for ${rows} rows`);
    }
    return {
      ...{
        bits,
        rows,
        columns,
        codes: await words(at("codes"), rows * columns * bits),
        scales,
        zeros: await words(at("zeros"), rows * groups * bits),
      },
      ...(groups > 1 ? { groups: await words(at("groups"), columns * groupBits(groups)) } : {}),
    };
  };
  const made: DeltaLinear[] = [];
  for (const { form, ...about } of linears) {
    const place = placeOf(about), [rows, columns] = about.shape;
    if (!Array.isArray(form)) {
      made.push({ ...about, form: { negative: await words(`${place}/negative`, rows * columns), scale: form.scale } });
      continue;
    }
    const groups: ComponentGroup[] = [];
    for (const [g, { bits, count }] of form.entries()) {
      const left = await factor(`${place}/${g}/left`, bits, rows, count), right = await factor(`${place}/${g}/right`, bits, count, columns);
      groups.push({ left, singularValues: await floats(`${place}/${g}/singularValues`, bits, count), right });
    }
    made.push({ ...about, form: groups });
  }
  const others = Object.entries(rest).map(([place, origin]): [string, TensorSource] => {
    const name = `rest/${place}`, array = arrays.get(name);
    if (!array || !["F32", "F16", "BF16"].includes(array.dtype)) throw fail(`found no weight "${name}"`);
    return [place, origin === null ? array as TensorSource : { ...array as TensorSource, origin }];
  });
  return { linears: made, rest: new Map(others) };
}

function expectRecord(json: unknown, where: string): DeltaRecord {
  const whole = (value: unknown) => Number.isSafeInteger(value) && value as number > 0;
  const record = json as DeltaRecord | undefined,
    good = record?.format === 1 && Array.isArray(record.linears) &&
      typeof record.rest === "object" && record.rest !== null &&
      record.linears.every((linear) =>
        Number.isSafeInteger(linear?.layer) && typeof linear.linear === "string" && Array.isArray(linear.shape) &&
        linear.shape.length === 2 &&
        linear.shape.every(whole) && (Array.isArray(linear.form)
          ? linear.form.every((group) =>
            whole(group?.bits) && whole(group.count)
          )
          : typeof linear.form?.scale === "number")
      );
  if (good) return record;
  throw new Error(`Cannot open the difference in "${where}": its record is none that saveDelta() writes`);
}
