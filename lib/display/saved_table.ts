/**
 * What was written.
 *
 * @module
 */

import type { SavedModel } from "../export/save_model.ts";
import { expect } from "../model/expect.ts";
import { formatBytes } from "./format_amounts.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * Where a model was saved, in which form, its files and the hash of its recipe.
 *
 * @param saved What `saveModel` gives.
 * @throws {TypeError} If it is not that.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const saved = { path: "out/small", form: "native" as const, files: ["config.json", "model.safetensors"], bytes: 4507904, recipe: "ab".repeat(32) };
 * assertMatch(savedTable(saved)["text/plain"], /size +\| 4\.3 MiB \(4,507,904 bytes\) in 2 files/);
 * ```
 */
export function savedTable(saved: SavedModel): Shown {
  expect(typeof saved?.path === "string" && Array.isArray(saved.files), "show a saved model", "what saveModel() gives", saved);
  const { path, form, files, bytes, recipe } = saved, count = `${files.length} file${files.length === 1 ? "" : "s"}`;
  const rows = Object.entries({
    ...{ path, form, size: `${formatBytes(bytes)} (${bytes.toLocaleString("en")} bytes) in ${count}` },
    ...{ files: files.join(", "), recipe: `SHA-256 ${recipe}` },
  });
  return table(rows.map(([what, value]) => ({ what, value })), {
    caption: "Saved model",
    columns: { what: { label: "" }, value: { label: "", align: "left" } },
  });
}
