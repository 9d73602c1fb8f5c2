/** Parquet files for tests, as the hub has them: Snappy, optional columns, lists and structs. */

import { parquetWriteBuffer } from "npm:hyparquet-writer@0.17.0";
import type { Column, Columns } from "../../lib/evaluate/datasets/parquet_rows.ts";

type Element = Parameters<typeof parquetWriteBuffer>[0]["schema"] extends (infer E)[] | undefined ? E : never;

/** A file with these columns of these rows. */
export function parquet(rows: readonly Record<string, unknown>[], columns: Columns): Uint8Array<ArrayBuffer> {
  const names = Object.keys(columns);
  const columnData = names.map((name) => ({
    name,
    data: rows.map((row) => columns[name] === "integer" ? bigint(row[name]) : row[name] ?? null),
  }));
  const schema: Element[] = [{ name: "schema", num_children: names.length }, ...names.flatMap((name) => elements(name, columns[name]))];
  return new Uint8Array(parquetWriteBuffer({ columnData, schema }));
}

const bigint = (value: unknown) => typeof value === "number" ? BigInt(value) : value ?? null;

function elements(name: string, kind: Column): Element[] {
  const optional = { name, repetition_type: "OPTIONAL" } as const;
  if (kind === "text") return [{ ...optional, type: "BYTE_ARRAY", converted_type: "UTF8" }];
  if (kind === "integer") return [{ ...optional, type: "INT64" }];
  if (kind !== "texts") {
    const fields = Object.entries(kind);
    return [{ ...optional, num_children: fields.length }, ...fields.flatMap(([field, kind]) => elements(field, kind))];
  }
  return [
    { ...optional, num_children: 1, converted_type: "LIST" },
    { name: "list", repetition_type: "REPEATED", num_children: 1 },
    ...elements("element", "text"),
  ];
}
