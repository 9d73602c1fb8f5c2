import { assertEquals, assertMatch } from "@std/assert";
import type { Shown } from "../../lib/display/shown.ts";
import { livePlace } from "../../lib/notebook/live_place.ts";
import { progressPlace } from "../../lib/notebook/progress_place.ts";
import { fakeClock } from "../fake_clock.ts";

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A place that keeps what it shows and takes its time, as a kernel does; `most` is how much was on its way at a time. */
function slowPlace(milliseconds = 5) {
  const shown: Shown[] = [], load = { now: 0, most: 0 };
  const place = async (content: Shown) => {
    load.most = Math.max(load.most, ++load.now);
    await sleep(milliseconds);
    shown.push(content);
    load.now--;
  };
  return { place, shown, load, texts: () => shown.map((content) => content["text/plain"]) };
}
const layers = (done: number, stage = "calibrate") => ({ stage, done, total: 40, unit: "layers" });
const last = { "text/plain": "trace: computed" };

Deno.test("progressPlace() draws a bar now and then, one at a time, and ends with the last word", async () => {
  using clock = fakeClock();
  const { place, load, shown, texts } = slowPlace(), { onProgress, end } = progressPlace(place, true);
  for (let done = 0; done <= 40; done++) {
    onProgress(layers(done));
    await clock.pass(10);
  }
  await clock.pass(10, end(last));
  onProgress(layers(40)); // too late
  await clock.pass(1000);
  assertEquals(texts().map((text) => text!.split(",")[0]), ["calibrate: 9 of 40 layers", "calibrate: 35 of 40 layers", "trace: computed"]);
  assertEquals(load.most, 1);
  assertMatch(`${shown[0]["text/html"]}`, /^<div><progress value="\d+" max="40"/);
});

Deno.test("progressPlace() says how fast it goes and how long that takes, anew for each stage", async () => {
  using clock = fakeClock();
  const { place, texts } = slowPlace(0), { onProgress, end } = progressPlace(place, true);
  onProgress(layers(10)); // kept from an earlier run: no measure of speed
  await clock.pass(200);
  onProgress(layers(12));
  await clock.pass(300);
  onProgress({ ...layers(0, "<b>search"), secondsLeft: 61 });
  await clock.pass(300);
  await clock.pass(10, end(last));
  assertEquals(texts(), [
    "calibrate: 10 of 40 layers",
    "calibrate: 12 of 40 layers, 5.7 layers a second, about 4.91 s left",
    "<b>search: 0 of 40 layers, about 1 min 1 s left",
    "trace: computed",
  ]);
});

Deno.test("progressPlace() shows no bar of what is quick, and does not wait for the next look", async () => {
  using clock = fakeClock();
  const quick = slowPlace(), bar = progressPlace(quick.place, true);
  bar.onProgress(layers(0));
  await clock.pass(6, bar.end(last));
  assertEquals(quick.texts(), ["trace: computed"]);
  const long = slowPlace(), other = progressPlace(long.place, true);
  other.onProgress(layers(1));
  await clock.pass(130);
  await clock.pass(6, other.end(last)); // what the place takes, not what lies between two looks
  assertEquals(long.texts().length, 2);
});

Deno.test("livePlace() leaves out what comes too fast, and draws the last", async () => {
  using clock = fakeClock();
  const { place, load, texts } = slowPlace(), live = livePlace(place, (step: number) => ({ "text/plain": `step ${step}` }), true);
  for (let step = 1; step <= 20; step++) {
    live.emit(step);
    await clock.pass(5);
  }
  await clock.pass(6, live.end());
  live.emit(21);
  await clock.pass(5000);
  assertEquals(texts(), ["step 1", "step 20"]);
  assertEquals(load.most, 1);
});

Deno.test("livePlace() says what it could not draw, once, and lets the stage go on", async () => {
  const { place, texts } = slowPlace();
  const live = livePlace(place, () => {
    throw new Error("Cannot show losses: there are none");
  }, true);
  for (let step = 1; step <= 3; step++) {
    live.emit(step);
    await sleep(10);
  }
  await live.end();
  assertEquals(texts(), ["Error: Cannot show losses: there are none"]);
});

Deno.test("livePlace() draws nothing after what it could not draw, be it told meanwhile", async () => {
  const { place, texts } = slowPlace();
  const live = livePlace(place, async (step: number) => {
    await sleep(10);
    if (step === 1) throw new Error("Cannot draw 1");
    return { "text/plain": `step ${step}` };
  }, true);
  live.emit(1);
  await sleep(2);
  live.emit(2);
  await live.end();
  assertEquals(texts(), ["Error: Cannot draw 1"]);
});

Deno.test("livePlace() draws nothing on a terminal, where drawings would pile up", async () => {
  const { place, texts } = slowPlace(), live = livePlace(place, () => last);
  live.emit(1);
  await live.end();
  assertEquals(texts(), []);
});
