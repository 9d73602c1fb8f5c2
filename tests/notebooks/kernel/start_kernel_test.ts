import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decodeMessage, encodeMessage, type Message, newHeader } from "./message.ts";
import { collectOutputs } from "./outputs.ts";
import { type Kernel, startKernel } from "./start_kernel.ts";

/** Runs cells one after the other. */
async function run(kernel: Kernel, ...cells: string[]) {
  const begin = collectOutputs(), results = [];
  for (const cell of cells) {
    const { outputs, take } = begin(), { status, evalue } = await kernel.execute(cell, take);
    results.push({ status, evalue, outputs });
  }
  return results;
}

Deno.test("a kernel runs cells: text, results, displays, errors, wrong syntax", async () => {
  await using kernel = await startKernel({ env: { WINNOW_SCALE: "small" } });
  assertEquals(kernel.language.name, "typescript");
  const [text, result, shown, error, syntax, after] = await run(
    kernel,
    `const scale: string = Deno.env.get("WINNOW_SCALE")!; console.log(scale); console.log("°".repeat(300)); console.error("beside");`,
    `[scale].map((s) => s.length)[0]`,
    `await Deno.jupyter.display({ "text/plain": "loss", "application/json": { loss: [1, 0.5] } }, { raw: true });`,
    `throw new RangeError("too far");`,
    `const a +* 3;`,
    `console.log(scale);`,
  );
  assertEquals(text.outputs, [
    { output_type: "stream", name: "stdout", text: `small\n${"°".repeat(300)}\n` },
    { output_type: "stream", name: "stderr", text: "beside\n" },
  ]);
  assertEquals(result.outputs, [{ output_type: "execute_result", data: { "text/plain": "5" }, metadata: {}, execution_count: 2 }]);
  const data = { "text/plain": "loss", "application/json": { loss: [1, 0.5] } };
  assertEquals(shown.outputs, [{ output_type: "display_data", data, metadata: {} }]);
  assertEquals([error.status, error.evalue, error.outputs[0].ename, error.outputs[0].evalue], [
    "error",
    "too far",
    "RangeError",
    "too far",
  ]);
  assertEquals([syntax.status, syntax.evalue], ["error", "Execution failed"]);
  assertEquals([after.status, after.outputs[0].text], ["ok", "small\n"]);
});

Deno.test("a display that is updated changes where it stands, in an earlier cell too", async () => {
  await using kernel = await startKernel();
  const display = (text: string, update: boolean) =>
    `await Deno.jupyter.display({ "text/plain": "${text}" }, { raw: true, display_id: "loss", update: ${update} });`;
  const [first, second] = await run(
    kernel,
    `${display("step 1", false)} ${display("step 2", true)}`,
    `console.log("on"); ${display("step 3", true)}`,
  );
  assertEquals(first.outputs, [{ output_type: "display_data", data: { "text/plain": "step 3" }, metadata: {} }]);
  assertEquals(second.outputs.map(({ output_type }) => output_type), ["stream"]);
});

Deno.test("no output is lost, nor goes to another cell, that a kernel publishes after it calls itself idle", async () => {
  await using kernel = await startKernel();
  const cells = Array.from({ length: 60 }, (_, i) => `console.log("cell ${i}"); "result ${i}"`), results = await run(kernel, ...cells);
  for (const [i, { outputs }] of results.entries()) {
    assertEquals(outputs.map(({ text, data }) => text ?? data?.["text/plain"]), [`cell ${i}\n`, `"result ${i}"`]);
  }
});

Deno.test("Stop ends a cell that listens, and keeps the kernel; where nothing listens, the end of the kernel is told", async () => {
  await using kernel = await startKernel();
  const listen = `const stop = new AbortController(); Deno.addSignalListener("SIGINT", () => stop.abort(new Error("stopped")));`;
  const wait = `await new Promise((_, reject) => {
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason));
    console.log("waiting");
  });`;
  await kernel.execute(listen);
  const reply = await kernel.execute(wait, ({ header }) => header.msg_type === "stream" && kernel.interrupt());
  assertEquals([reply.status, reply.evalue], ["error", "stopped"]);
  const [after] = await run(kernel, `stop.signal.aborted`);
  assertEquals(after.outputs[0].data, { "text/plain": "true" });

  await using deaf = await startKernel();
  const running = deaf.execute(`console.log("begun"); await new Promise((done) => setTimeout(done, 600_000));`, () => deaf.interrupt());
  await assertRejects(() => running, Error, "The kernel ended with SIGINT");
  await assertRejects(() => deaf.execute("1"), Error, "The kernel ended");
});

Deno.test("messages are signed", () => {
  const message: Message = { header: newHeader("stream", "session"), parent: {}, content: { text: "loss" } };
  const frames = encodeMessage("key", message).map((frame) => new TextEncoder().encode(frame));
  assertEquals(decodeMessage("key", frames), message);
  assertThrows(() => decodeMessage("another", frames), Error, "without a valid signature");
  frames[5][10] ^= 1;
  assertThrows(() => decodeMessage("key", frames), Error, "without a valid signature");
});

Deno.test("outputs: text of one stream is joined, lines are written over, cleared ones go", () => {
  const { outputs, take } = collectOutputs()();
  const tell = (type: string, content: unknown) => take({ header: newHeader(type, ""), parent: {}, content });
  tell("stream", { name: "stdout", text: "layer 1/4\r" });
  tell("stream", { name: "stdout", text: "layer 2/4\rlayer 4/4\n" });
  assertEquals(outputs, [{ output_type: "stream", name: "stdout", text: "layer 4/4\n" }]);
  tell("clear_output", { wait: true });
  assertEquals(outputs.length, 1);
  tell("stream", { name: "stdout", text: "done" });
  assertEquals(outputs, [{ output_type: "stream", name: "stdout", text: "done" }]);
  tell("clear_output", { wait: false });
  assertEquals(outputs, []);
});
