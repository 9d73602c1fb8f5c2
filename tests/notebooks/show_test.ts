import { assertEquals, assertMatch } from "@std/assert";
import { lossCurve, place, table } from "../../notebooks/show.ts";

Deno.test("table() aligns columns of numbers, signs and dashes to the right", () => {
  const rows = [{ model: "dense", loss: "0.88", change: "–" }, { model: "tuned", loss: "1.02 ± 0.01", change: -3 }];
  const lines = table(rows)["text/markdown"].split("\n");
  assertMatch(lines[1], /^\| :-+ \| -+: \| -+: \|$/);
  assertMatch(lines[3], /^\| tuned \| 1\.02 ± 0\.01 \| +-3 \|$/);
});

Deno.test("lossCurve() draws an image that stands alone, and says the same in words", () => {
  const history = Array.from({ length: 40 }, (_, i) => ({ step: i + 1, loss: 2 / (i + 1), learningRate: 1e-3, gradientNorm: 1 }));
  const one = lossCurve({ "a <b>": history }), two = lossCurve({ first: history, second: history.slice(0, 5) });
  assertMatch(one["image/svg+xml"], /^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assertMatch(one["image/svg+xml"], /a &lt;b>|a &lt;b&gt;/); // names come from files
  assertEquals(two["image/svg+xml"].match(/aria-label="line"/g)?.length, 1, "single steps only behind a single curve");
  assertEquals(two["text/plain"], "Loss, nats a token: first 0.050 after 40 steps; second 0.400 after 5 steps");
});

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
