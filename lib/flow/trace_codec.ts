/**
 * Traces of calibration on disk.
 *
 * @module
 */

import type { MoeInputs, Trace } from "../calibrate/calibrate.ts";
import { decodeData, encodeData } from "./data_codec.ts";
import type { Codec, FiledArray } from "./stage.ts";

/** What a trace is without its inputs. */
interface Rest {
  /** All sequences one behind the other, and their lengths. */
  ids: Uint32Array;
  lengths: number[];
  tokens: number;
  layers: { layer: number; experts: number[]; counts: Uint32Array; hidden: number }[];
}

/** Keeps a trace: MoE inputs as one F32 array `[tokens, hidden]` a layer, which is written in pieces, and read by rows when somebody asks. */
export const traceCodec: Codec<Trace> = {
  name: "trace",
  shared: true,
  encode: ({ sequences, tokens, layers }) => {
    const ids = new Uint32Array(sequences.reduce((n, { length }) => n + length, 0));
    sequences.reduce((at, sequence) => (ids.set(sequence, at), at + sequence.length), 0);
    const { json, arrays } = encodeData(
      {
        ...{ ids, lengths: sequences.map(({ length }) => length), tokens },
        layers: layers.map(({ layer, experts, counts, inputs }) => ({ layer, experts, counts, hidden: inputs.hidden })),
      } satisfies Rest,
    );
    for (const { layer, inputs } of layers) {
      const readSlice = (first: number, into: Uint8Array) =>
        inputs.read(first, new Float32Array(into.buffer, into.byteOffset, into.byteLength / 4));
      const shape = [inputs.tokens, inputs.hidden];
      arrays.set(nameOf(layer), { dtype: "F32", shape, read: (into) => readSlice(0, into), readSlice });
    }
    return { json, arrays };
  },
  decode: async ({ json, arrays }) => {
    const { ids, lengths, tokens, layers } = await decodeData(json, arrays) as Rest;
    let at = 0;
    return {
      sequences: lengths.map((length) => ids.slice(at, at += length)),
      tokens,
      layers: layers.map(({ hidden, ...layer }) => ({ ...layer, inputs: rowsOf(arrays.get(nameOf(layer.layer))!, hidden) })),
      [Symbol.dispose]: () => {}, // nothing is held: every read opens the file
    };
  },
};

const nameOf = (layer: number) => `inputs.${layer}`;

function rowsOf(array: FiledArray, hidden: number): MoeInputs {
  return {
    tokens: array.shape[0],
    hidden,
    read: (start, into) => array.readSlice(start, new Uint8Array(into.buffer, into.byteOffset, into.byteLength)),
  };
}
