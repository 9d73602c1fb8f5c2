/** What the programs that measure have in common. */

import type { Device } from "../../lib/device/device.ts";

export type Scale = "small" | "full";

/** One thing that a round times. */
export interface Part {
  /** What a time is for, such as "candidate" or "set-up". */
  unit: string;
  /** Seconds of one unit in each timed run. */
  seconds: number[];
  /** Work in a unit, by the formula beside the workload: multiplications and additions, and bytes that have to be read or written at least. */
  work?: { flops: number; bytes: number };
  /** Which of a peer's times stands beside it. @default none does */
  beside?: "seconds" | "setup_seconds";
}

/** Another way to the same result on the same device. */
export interface Detour {
  name: string;
  seconds: number[];
}

export interface Round {
  parts: Part[];
  /** A number that depends on the result, the same as the peers'. */
  check: number;
  detours?: Detour[];
  /** Sentences for below the tables. */
  notes?: string[];
  /** Peak memory of the process, where the work had one of its own. */
  peakBytes?: number;
}

/** A workload with its inputs made. */
export interface Prepared extends Disposable {
  round(): Promise<Round>;
}

export interface Peer {
  name: string;
  /** Timed runs in a round. */
  repeat: number;
  flags?: readonly string[];
  /** It measured a part of the work: what part, and by what its time is multiplied. */
  sample?: { of: string; factor: number };
  /** Its work before the first unit is another than ours, and stands beside nothing. @default false */
  unprepared?: boolean;
}

export interface Row {
  /** One of the six names. */
  name: string;
  /** At what shape, such as "qwen". */
  shape: string;
  /** Program of the peers and its flags, and which of its peers: the literal one, and the fastest. */
  program: string;
  flags: readonly string[];
  peers: readonly Peer[];
  /** Makes the inputs; `folder` is for files and is removed at the end. */
  prepare(device: Device, folder: string): Promise<Prepared>;
}
