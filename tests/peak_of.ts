import type { Device } from "../lib/device/device.ts";
import { openDevice } from "../lib/device/open_device.ts";

/** Most bytes alive on a device after any of its operations. */
export async function peakOf(run: (device: Device) => Promise<unknown>): Promise<number> {
  using device = await openDevice({ kind: "cpu" });
  let peak = 0;
  const note = () => void (peak = Math.max(peak, device.live.bytes));
  const watched = <T extends object>(operations: T): T =>
    new Proxy(operations, {
      get(target, name) {
        const value = (target as Record<string | symbol, unknown>)[name];
        if (name === "vjp") return watched(value as object);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          const result = value.apply(target, args);
          if (result instanceof Promise) return result.finally(note);
          note();
          return result;
        };
      },
    });
  await run(watched(device));
  return peak;
}
