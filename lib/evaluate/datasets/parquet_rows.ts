/**
 * Rows of a parquet file.
 *
 * @module
 */

import type { AsyncBuffer, FileMetaData, SchemaTree } from "npm:hyparquet@1.31.5";
import type { Source } from "../../checkpoint/source.ts";

/** What a column holds: a text, a whole number, a list of texts, or a struct of these. */
export type Column = "text" | "integer" | "texts" | { readonly [field: string]: Column };

/** Columns by name. */
export type Columns = Readonly<Record<string, Column>>;

/** A row with these columns. */
export type RowOf<C> = { [name in keyof C]: ValueOf<C[name]> };

type ValueOf<C> = C extends "text" ? string : C extends "integer" ? number : C extends "texts" ? string[] : RowOf<C>;

/** Compression that is read; the hub's own parquet files use Snappy. */
const CODECS = ["UNCOMPRESSED", "SNAPPY"];

/**
 * Reads some columns of a parquet file, and checks that they hold what is expected. The file is read whole, so that the hub's cache keeps it.
 *
 * @param source Where the file lies.
 * @param path Its name there.
 * @param columns The columns that are wanted.
 * @param limit At most so many rows, from the first on.
 * @returns The rows; whole numbers as `number`.
 * @throws {Error} If there is no such file, it is not parquet, or a column is absent or of another kind.
 *
 * @example
 * ```ts
 * import { folderSource } from "../../checkpoint/folder_source.ts";
 * import { assertRejects } from "@std/assert";
 * const source = folderSource("notebooks/checkpoints/tiny-mixtral");
 * await assertRejects(() => parquetRows(source, "config.json", { text: "text" }), Error, "it is not a parquet file");
 * ```
 */
export async function parquetRows<const C extends Columns>(
  source: Source,
  path: string,
  columns: C,
  limit: number = Infinity,
): Promise<RowOf<C>[]> {
  const shown = `"${source.location}/${path}"`, bytes = await source.bytes(path);
  if (bytes === undefined) throw new Error(`Cannot read ${shown}: there is no such file`);
  const { parquetMetadataAsync, parquetReadObjects, parquetSchema } = await import("npm:hyparquet@1.31.5");
  const file: AsyncBuffer = { byteLength: bytes.length, slice: (from, to) => bytes.slice(from, to).buffer };
  const metadata = await parquetMetadataAsync(file).catch((cause) => {
    throw new Error(`Cannot read ${shown}: it is not a parquet file`, { cause });
  });
  checkSchema(parquetSchema(metadata), metadata, columns, shown);
  const rowEnd = Math.min(limit, Number(metadata.num_rows));
  const rows = await parquetReadObjects({ file, metadata, columns: Object.keys(columns), rowEnd }).catch((cause) => {
    throw new Error(`Cannot read ${shown}: its data are damaged`, { cause });
  });
  return rows.map((row, i) =>
    convert(row, columns, (name, kind, found) => {
      const value = found === null || found === undefined ? "nothing" : `${JSON.stringify(found, bigintAsNumber)}`;
      return new TypeError(`Cannot use ${shown}: "${name}" of row ${i} holds ${value.slice(0, 80)}, expected ${NAMES[kind]}`);
    })
  );
}

function checkSchema(schema: SchemaTree, metadata: FileMetaData, columns: Columns, shown: string): void {
  const found = schema.children.map(({ element }) => element.name),
    missing = Object.keys(columns).find((name) => !found.includes(name));
  if (missing !== undefined) {
    throw new Error(
      `Cannot use ${shown}: it has no column "${missing}", expected ${Object.keys(columns).join(", ")}, found ${
        found.join(", ") || "none"
      }`,
    );
  }
  const codec = metadata.row_groups.flatMap((group) => group.columns.map((c) => c.meta_data?.codec ?? "UNCOMPRESSED")).find((c) =>
    !CODECS.includes(c)
  );
  if (codec) throw new Error(`Cannot read ${shown}: it is compressed with ${codec}, expected ${CODECS.join(" or ")}`);
}

const NAMES = { text: "a text", integer: "a whole number", texts: "a list of texts", struct: "a struct" };

type Complain = (name: string, kind: keyof typeof NAMES, found: unknown) => Error;

function convert<C extends Columns>(row: Record<string, unknown>, columns: C, complain: Complain): RowOf<C> {
  const one = (name: string, kind: Column, value: unknown): unknown => {
    if (kind === "text" && typeof value === "string") return value;
    if (kind === "texts" && Array.isArray(value) && value.every((v) => typeof v === "string")) return value;
    if (kind === "integer" && ["number", "bigint"].includes(typeof value) && Number.isSafeInteger(Number(value))) return Number(value);
    if (typeof kind !== "object") throw complain(name, kind, value);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw complain(name, "struct", value);
    return struct(`${name}.`, kind, value as Record<string, unknown>);
  };
  const struct = (prefix: string, fields: Columns, values: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(fields).map(([name, kind]) => [name, one(prefix + name, kind, values[name])]));
  return struct("", columns, row) as RowOf<C>;
}

const bigintAsNumber = (_: string, value: unknown) => typeof value === "bigint" ? Number(value) : value;
