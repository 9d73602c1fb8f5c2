import { assert, assertEquals, assertMatch } from "@std/assert";
import { fileURLToPath } from "node:url";
import { openDevice } from "../../lib/device/open_device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { openFixture } from "../fixtures.ts";

Deno.test("the demo writes a smaller model that opens, and says what it cost", async () => {
  const folder = await Deno.makeTempDir(), demo = fileURLToPath(new URL("../../notebooks/demo.ts", import.meta.url));
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", demo],
      cwd: folder,
      env: { NO_COLOR: "1" },
    }).output();
    const text = new TextDecoder().decode(stdout), log = new TextDecoder().decode(stderr);
    assert(code === 0, log);
    assertMatch(text, /^Device: (cpu|webgpu), .+; .+\./);
    for (
      const row of [
        "parameters",
        "active parameters",
        "bytes of weights",
        "perplexity",
        "accuracy city",
        "accuracy bracket",
        "mean accuracy",
        "genetic search",
        "SVD",
        "total",
      ]
    ) {
      assert(text.includes(`| ${row}`), `the tables have a row "${row}"`);
    }
    assertMatch(text, /Wrote out\/tiny-qwen2-moe-i2 \([\d,]+ bytes\)/);
    assertMatch(log, /calibrate: 4\/4 layers in [\d.]+ s\n/);
    assert(!log.includes("\u001b"), "no terminal codes where there is no terminal");

    using device = await openDevice({ kind: "cpu" });
    const { heldOut } = await openFixture("tiny-qwen2-moe"),
      measured = await perplexity(device, await openModel(`${folder}/out/tiny-qwen2-moe-i2`), heldOut);
    const printed = Number(text.match(/perplexity.*\| +([\d.]+) \|/)![1]);
    assertEquals(measured.perplexity.toFixed(2), printed.toFixed(2), "the table tells the perplexity of the folder that was written");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
