/**
 * Element types of files.
 *
 * @module
 */

import { BYTES, type DType } from "../device/device.ts";

/** What a safetensors file of ours may hold: weights, and numbers of other types. */
export type FileType = DType | "F64" | "U32" | "I32" | "U16" | "U8";

/** Bytes of an element. */
export const FILE_BYTES: Readonly<Record<FileType, number>> = { ...BYTES, F64: 8, U32: 4, I32: 4, U16: 2, U8: 1 };
