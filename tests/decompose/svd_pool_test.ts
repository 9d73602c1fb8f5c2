import { assertEquals, assertRejects } from "@std/assert";
import { svdPool } from "../../lib/decompose/svd_pool.ts";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { noise } from "../devices.ts";

const threads = openBlas()?.threads;

Deno.test({
  name: "svdPool() decomposes several matrices at once, to the bits of one BLAS thread, and gives its threads back",
  ignore: !threads,
  async fn() {
    using device = await openDevice({ kind: "cpu" });
    const before = threads!.count();
    threads!.use(2);
    try {
      using matrices = new DisposableStack();
      const given = [1, 2, 3, 4, 5].map((seed) => matrices.use(device.tensor(noise(300 * 280, seed), [300, 280])));
      const found = await (async () => {
        using pool = svdPool(device, [300, 280]);
        assertEquals([pool.atOnce, threads!.count()], [2, 1]);
        await assertRejects(() => pool.decompose(given[0], 0), RangeError, "received 0");
        return await Promise.all(given.map((matrix) => pool.decompose(matrix, 30)));
      })();
      assertEquals(threads!.count(), 2);
      threads!.use(1);
      for (const [i, matrix] of given.entries()) assertEquals(found[i], await truncatedSvd(device, matrix, 30), `matrix ${i}`);
      using pool = svdPool(device, [300, 280]);
      assertEquals(pool.atOnce, 1, "with one thread");
    } finally {
      threads!.use(before);
    }
  },
});
