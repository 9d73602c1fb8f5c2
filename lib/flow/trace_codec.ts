/**
 * Traces of calibration on disk.
 *
 * @module
 */

import type { MoeInputs, Trace } from "../calibrate/calibrate.ts";
import { decodeData, encodeData } from "./data_codec.ts";
import type { Codec, FiledArray } from "./stage.ts";

/** What a trace is without its inputs. */
type Rest = Omit<Trace, "layers" | typeof Symbol.dispose> & {
  layers: { layer: number; experts: number[]; counts: Uint32Array; hidden: number }[];
};

/** Keeps a trace: MoE inputs as one F32 array `[tokens, hidden]` a layer, which is read by rows when somebody asks. */
export const traceCodec: Codec<Trace> = {
  name: "trace",
  encode: ({ sequences, tokens, layers }) => {
    const { json, arrays } = encodeData(
      {
        sequences,
        tokens,
        layers: layers.map(({ layer, experts, counts, inputs }) => ({ layer, experts, counts, hidden: inputs.hidden })),
      } satisfies Rest,
    );
    for (const { layer, inputs } of layers) {
      arrays.set(nameOf(layer), {
        dtype: "F32",
        shape: [inputs.tokens, inputs.hidden],
        read: (into) => inputs.read(0, new Float32Array(into.buffer, into.byteOffset, into.byteLength / 4)),
      });
    }
    return { json, arrays };
  },
  decode: async ({ json, arrays }) => {
    const { layers, ...rest } = await decodeData(json, arrays) as Rest;
    return {
      ...rest,
      layers: layers.map(({ hidden, ...layer }) => ({ ...layer, inputs: rowsOf(arrays.get(nameOf(layer.layer))!, hidden) })),
      [Symbol.dispose]: () => {},
    };
  },
};

const nameOf = (layer: number) => `inputs.${layer}`;

function rowsOf(array: FiledArray, hidden: number): MoeInputs {
  return {
    tokens: array.shape[0],
    hidden,
    read: async (start, into) => {
      const rows = Uint32Array.from({ length: into.length / hidden }, (_, i) => start + i);
      await array.readRows(rows, new Uint8Array(into.buffer, into.byteOffset, into.byteLength));
    },
  };
}
