import { assertEquals } from "@std/assert";
import { table } from "../../lib/display/table.ts";
import { place } from "../../lib/notebook/place.ts";
import { show } from "../../lib/notebook/show.ts";

/** What is printed on a terminal. */
async function printed(run: () => Promise<void>): Promise<unknown[]> {
  const { log } = console, lines: unknown[] = [];
  console.log = (line) => lines.push(line);
  try {
    await run();
  } finally {
    console.log = log;
  }
  return lines;
}

Deno.test("place() prints text on a terminal, and nothing twice in a row", async () => {
  const lines = await printed(async () => {
    const draw = place();
    for (const text of ["one", "one", "two", "one"]) await draw({ "text/plain": text, "text/html": `<b>${text}</b>` });
  });
  assertEquals(lines, ["one", "two", "one"]);
});

Deno.test("place() says only the first of what changes all the time, if told so", async () => {
  const lines = await printed(async () => {
    const draw = place({ once: true });
    for (const text of ["1 fresh", "2 fresh", "3 fresh"]) await draw({ "text/plain": text });
  });
  assertEquals(lines, ["1 fresh"]);
});

Deno.test("show() takes displays, texts, what shows itself, and values", async () => {
  const self = { [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "itself" }) };
  const lines = await printed(async () => {
    for (const content of [table([{ model: "dense" }]), "**text**", self, { loss: 2.5, sets: [[1, 2]] }, 42, undefined]) {
      await show(content);
    }
  });
  assertEquals(lines, ["| model |\n| :---- |\n| dense |", "**text**", "itself", "{ loss: 2.5, sets: [ [ 1, 2 ] ] }", "42", "undefined"]);
});
