/**
 * What a GPU's limits are, where they decide how work is cut.
 *
 * @module
 */

export interface DeviceLimits {
  /** Bytes that a kernel can see of one buffer. */
  maxStorageBufferBindingSize: number;
  /** Bytes of one buffer, so of one tensor. */
  maxBufferSize: number;
  /** Multiples of so many bytes are where a kernel's view of a buffer may begin. */
  minStorageBufferOffsetAlignment: number;
  /** Workgroups along each dimension of a dispatch. */
  maxComputeWorkgroupsPerDimension: number;
}

/** What has limits, such as a GPU. */
export interface Limited {
  readonly limits: DeviceLimits;
}
