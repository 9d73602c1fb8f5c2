/**
 * What displays know of a flow.
 *
 * @module
 */

/** Where a stage stands. */
export interface StageStatus {
  name: string;
  state: "fresh" | "stale" | "missing" | "partial" | "failed";
  /** In words. */
  reason?: string;
  key?: string;
  seconds?: number;
  bytes?: number;
  device?: string;
  stored?: boolean;
  inputs: string[];
}

/** Stages, and what goes from one into the other. */
export interface Lineage {
  stages: StageStatus[];
  edges: { from: string; to: string }[];
}
