import { assertEquals, assertMatch } from "@std/assert";
import { terminalProgress } from "../../lib/display/terminal_progress.ts";
import { replaced } from "../replaced.ts";

Deno.test("terminalProgress() prints one line a stage where there is no terminal", () => {
  const lines: string[] = [], onProgress = terminalProgress({ terminal: false, print: (line) => lines.push(line) });
  for (const stage of ["calibrate", "importance", "calibrate"]) {
    for (let done = 0; done <= 3; done++) onProgress({ stage, done, total: 3, unit: "layers" });
  }
  assertEquals(lines.map((line) => line.replace(/ in .*/, "")), [
    "calibrate: 3/3 layers",
    "importance: 3/3 layers",
    "calibrate: 3/3 layers",
  ]);
  assertMatch(lines[0], /in \d+\.\d s$/);
});

Deno.test("terminalProgress() says how much time is left where the stage can tell", () => {
  const lines: string[] = [], onProgress = terminalProgress({ terminal: false, print: (line) => lines.push(line) });
  for (const [done, secondsLeft] of [[0, undefined], [1, 44.2], [2, undefined], [4, 0]] as const) {
    using _clock = replaced(performance, "now", () => 15_000 * done);
    onProgress({ stage: "evaluate", done, total: 4, unit: "layers", secondsLeft });
  }
  assertEquals(lines, [
    "evaluate: 1/4 layers in 15.0 s, about 45 s left",
    "evaluate: 2/4 layers in 30.0 s",
    "evaluate: 4/4 layers in 60.0 s",
  ]);
});
