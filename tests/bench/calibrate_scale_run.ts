/** A calibration pass in a process of its own: `deno run -A tests/bench/calibrate_scale_run.ts FOLDER DEVICE`, run by calibrate_scale.ts; prints JSON. */

import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { calibrationTokens } from "./calibrate_scale.ts";
import { timed } from "./timed.ts";

const [folder, kind] = Deno.args;
using device = await openDevice({ kind: kind as "cpu" | "webgpu" });
const model = await openModel(folder), sequences = calibrationTokens(model.config.vocabulary);
const [trace, seconds] = await timed(() => calibrate(device, model, sequences));
using _trace = trace;
// Linux tells the peak; elsewhere what is in use now has to do.
const status = Deno.build.os === "linux" ? await Deno.readTextFile("/proc/self/status") : "";
const peakBytes = Number(status.match(/VmHWM:\s+(\d+) kB/)?.[1] ?? Deno.memoryUsage().rss / 1024) * 1024;
console.log(JSON.stringify({ seconds, peakBytes, check: (await perplexity(device, model, sequences)).nll }));
