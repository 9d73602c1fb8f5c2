import { assertEquals, assertMatch } from "@std/assert";
import { terminalProgress } from "../../lib/display/terminal_progress.ts";

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
