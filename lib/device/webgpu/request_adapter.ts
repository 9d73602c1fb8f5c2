/**
 * The system's GPU.
 *
 * @module
 */

/**
 * Asks for the fastest adapter of this system, which may be a software rasteriser.
 *
 * @returns The adapter, or null where there is none or WebGPU is missing or fails.
 *
 * @example
 * ```ts ignore
 * const adapter = await requestAdapter();
 * console.log(adapter?.info.description ?? "no GPU");
 * ```
 */
export async function requestAdapter(): Promise<GPUAdapter | null> {
  const restore = quietWayland();
  try {
    return await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: "high-performance" }) ?? null;
  } catch {
    return null; // a driver that cannot start is no GPU
  } finally {
    restore();
  }
}

/**
 * While adapters are looked for, Mesa tries to reach a Wayland server and prints an error where XDG_RUNTIME_DIR is not set, as in most containers and
 * services. A directory that does not exist keeps it quiet; the variable is taken away again afterwards.
 */
function quietWayland(): () => void {
  const variable = "XDG_RUNTIME_DIR", allowed = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  if (Deno.build.os !== "linux" || !allowed || Deno.env.get(variable)) return () => {};
  Deno.env.set(variable, "/nonexistent");
  return () => Deno.env.delete(variable);
}
