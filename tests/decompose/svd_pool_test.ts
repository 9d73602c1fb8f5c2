import { assertEquals, assertRejects } from "@std/assert";
import { svdPool } from "../../lib/decompose/svd_pool.ts";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { watchedThreads } from "../device/watched_threads.ts";
import { noise } from "../devices.ts";
import { replaced } from "../replaced.ts";

const threads = openBlas()?.threads;

Deno.test({
  name: "svdPool() decomposes several matrices at once, to the bits of one BLAS thread, and gives its threads back",
  ignore: !threads,
  async fn() {
    using _one = threads!.one();
    using device = await openDevice({ kind: "cpu" });
    using matrices = new DisposableStack();
    const given = [1, 2, 3, 4, 5].map((seed) => matrices.use(device.tensor(noise(300 * 280, seed), [300, 280])));
    const want = await Promise.all(given.map((matrix) => truncatedSvd(device, matrix, 30))), { threads: two, asked } = watchedThreads(2);
    {
      using _two = replaced(openBlas()!, "threads", two);
      using pool = svdPool(device, [300, 280]);
      using other = svdPool(device, [300, 280]);
      assertEquals([pool.atOnce, other.atOnce], [2, 2], "a second pool is as large as the first");
      await assertRejects(() => pool.decompose(given[0], 0), RangeError, "received 0");
      const found = await Promise.all([pool, other].map((pool) => Promise.all(given.map((matrix) => pool.decompose(matrix, 30)))));
      for (const [i, each] of found.entries()) each.forEach((svd, m) => assertEquals(svd, want[m], `pool ${i}, matrix ${m}`));
      assertEquals(asked, [1]);
    }
    assertEquals(asked, [1, 2]);
    using _single = replaced(openBlas()!, "threads", watchedThreads(1).threads);
    using pool = svdPool(device, [300, 280]);
    assertEquals(pool.atOnce, 1, "with one thread");
  },
});
