import { assertEquals } from "@std/assert";
import { table } from "../../lib/display/table.ts";
import { place } from "../../notebooks/show.ts";

Deno.test("place() prints text where there is no notebook", async () => {
  const { log } = console, lines: unknown[] = [];
  console.log = (line) => lines.push(line);
  try {
    const draw = place();
    await draw("one");
    await draw(table([{ model: "dense" }]));
  } finally {
    console.log = log;
  }
  assertEquals(lines, ["one", "| model |\n| :---- |\n| dense |"]);
});
