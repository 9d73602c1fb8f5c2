import { cpus, totalmem } from "node:os";
import type { Device } from "../../lib/device/device.ts";

/** The machine in a sentence or two: what a figure is worth nothing without. */
export function machine(device: Device, torch: { version: string; threads: number } | undefined): string {
  const [{ model }] = cpus(), cores = navigator.hardwareConcurrency, gigabytes = Math.round(totalmem() / 2 ** 30);
  return [
    `Machine: ${model.trim()}, ${cores} core${cores === 1 ? "" : "s"}, ${gigabytes} GiB, ${Deno.build.os} ${Deno.build.arch}; load ${
      Deno.loadavg()[0].toFixed(1)
    } before.`,
    `Winnow: Deno ${Deno.version.deno}, ${device.kind} device, ${device.name}.`,
    ...(torch ? [`Peers: torch ${torch.version}, ${torch.threads} thread${torch.threads === 1 ? "" : "s"}, float32.`] : []),
  ].join("\n");
}
