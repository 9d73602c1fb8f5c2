import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { errorBlock, sentencesOf, stoppedBlock } from "../../lib/notebook/error_block.ts";

const lines = (what: string, error: unknown) => errorBlock(what, error)["text/plain"].split("\n");

Deno.test("errorBlock() says what, why, and what to do about it", () => {
  const cause = new Error("connection refused", { cause: new Error("no route") });
  assertEquals(lines('run "trace"', new Error("fetch failed", { cause })), [
    'Could not: run "trace"',
    "Error: fetch failed",
    "Cause: connection refused",
    "Cause: no route",
    "Remedy: Check the network and HF_TOKEN; what has been downloaded once is read from the cache.",
  ]);
  // Sentences of ours say what could not be done; there is not always a remedy.
  assertEquals(lines('run "trace"', new RangeError("Cannot calibrate: there are no tokens")), [
    "Error: Cannot calibrate: there are no tokens",
  ]);
});

Deno.test("errorBlock() knows a remedy for what often happens", () => {
  const remedy = (sentence: string) => lines("run it", new Error(sentence)).find((line) => line.startsWith("Remedy"));
  assertEquals(
    remedy("The GPU was lost"),
    'Remedy: Run the first cell again: it opens a new device. With `device: "cpu"` it does without the GPU.',
  );
  assert(remedy("GPU: out of memory")?.startsWith("Remedy: Use fewer or shorter sequences"));
  assert(remedy('Cannot run "plan": its input "candidates" is stale; run that first')?.startsWith("Remedy: Run the cell of that stage"));
  assert(remedy("Cannot write: No space left on device")?.includes("nb.gc({ remove: true })"));
  assertEquals(remedy("Cannot merge adapters: they are of another model"), undefined, "an adapter is no GPU");
});

Deno.test("errorBlock() takes nothing for markup", () => {
  const block = errorBlock(
    'run "<b>trace</b>"',
    new Error("<script>alert(1)</script> *no* `code`\n\u001b[31mred", { cause: "<img src=x>" }),
  );
  const html = `${block["text/html"]}`, markdown = `${block["text/markdown"]}`;
  assert(!/<(?!\/?(div|b)\b)/.test(html), html);
  assertStringIncludes(html, "run &quot;&lt;b&gt;trace&lt;/b&gt;&quot;");
  assertStringIncludes(html, "&lt;script&gt;alert(1)&lt;/script&gt;");
  assert(!/<[a-z]/i.test(markdown) && markdown.includes("\\*no\\* \\`code\\`"), markdown);
  for (const text of [html, markdown, block["text/plain"]]) assert(!text.includes("\u001b"), "no terminal codes");
  assertEquals(block["text/plain"].split("\n").length, 3, "a line each, whatever breaks lines in a message");
});

Deno.test("sentencesOf() takes anything that was thrown, and says nothing twice", () => {
  assertEquals(sentencesOf(undefined), ["unknown"]);
  assertEquals(sentencesOf("text"), ["text"]);
  assertEquals(sentencesOf(new TypeError()), ["TypeError"]);
  assertEquals(sentencesOf(new Error("cannot open: gone", { cause: new Error("gone") })), ["cannot open: gone"]);
  const circle = new Error("a"), other = new Error("b", { cause: circle });
  circle.cause = other;
  assertEquals(sentencesOf(circle), ["a", "b"]);
});

Deno.test("stoppedBlock() is no error", () => {
  const block = stoppedBlock('run "tuned"', true);
  assertEquals(block["text/plain"], 'Stopped: did not run "tuned" to the end\nRemedy: Run the cell again: it goes on from what is done.');
  assertStringIncludes(`${block["text/html"]}`, 'role="status"');
});
