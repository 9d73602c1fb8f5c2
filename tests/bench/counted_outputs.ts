import { type Device, NO_EXPERT } from "../../lib/device/device.ts";

/** The same device, and how many outputs of experts it was asked for until now: what is listed in the tables of `experts`. */
export function countedOutputs(device: Device): { device: Device; outputs: () => Promise<number> } {
  const counts: Promise<number>[] = [];
  const experts: Device["experts"] = (x, table, weights) => {
    counts.push(device.readIndices(table).then((ids) => ids.reduce((n, id) => n + Number(id !== NO_EXPERT && id < weights.count), 0)));
    return device.experts(x, table, weights);
  };
  return {
    device: new Proxy(device, { get: (target, name) => name === "experts" ? experts : Reflect.get(target, name) }),
    outputs: async () => (await Promise.all(counts)).reduce((a, b) => a + b, 0),
  };
}
