/**
 * Weights that will be read soon.
 *
 * @module
 */

import type { FileRange, MatrixSource, TensorSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import type { DecoderLayer } from "./model.ts";

/**
 * Asks the sources of a layer's weights to fetch them from where reading is slow, all at once, each byte once and what lies together in one go. None is held:
 * the peak stays that of one layer. Sources that cannot do so are read when it is their turn.
 */
export async function prefetchLayer(layer: DecoderLayer): Promise<void> {
  const ranges = [...new Set(weightsOf(layer))].flatMap(({ ranges }) => ranges ?? []);
  await Promise.all(runs(ranges).map(({ files, path, start, bytes }) => files.prefetch?.(path, start, bytes)));
}

function weightsOf({ inputNorm, outputNorm, attention, block }: DecoderLayer): TensorSource[] {
  const networks = block.kind === "dense" ? [block] : [...block.experts, ...(block.shared ? [block.shared] : [])];
  const matrices: MatrixSource[] = [...Object.values(attention), ...networks.flatMap(({ gate, up, down }) => [gate, up, down])];
  const rest = block.kind === "dense" ? [] : [
    ...[block.router, block.constants?.outputs, block.shared?.scale],
    ...block.experts.flatMap(({ biases }) => Object.values(biases ?? {})),
  ];
  return [inputNorm, outputNorm, ...matrices.flatMap(matrixParts), ...rest.filter((source) => source !== undefined)];
}

/** The same bytes in as few ranges as can be: those that touch or overlap become one. */
function runs(ranges: readonly FileRange[]): FileRange[] {
  const sorted = [...ranges].sort((a, b) => a.start - b.start);
  return [...Map.groupBy(sorted, ({ files }) => files).values()].flatMap((there) =>
    [...Map.groupBy(there, ({ path }) => path).values()].flatMap((file) => {
      const joined: FileRange[] = [];
      for (const range of file) {
        const last = joined.at(-1), end = last ? last.start + last.bytes : -1;
        if (range.start > end) joined.push(range);
        else joined[joined.length - 1] = { ...last!, bytes: Math.max(end, range.start + range.bytes) - last!.start };
      }
      return joined;
    })
  );
}
