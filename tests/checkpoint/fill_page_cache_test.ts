import { assert, assertEquals } from "@std/assert";
import { fillPageCache } from "../../lib/checkpoint/fill_page_cache.ts";
import { runDeno } from "../run_deno.ts";
import { temporaryFolder } from "./fixtures.ts";

const PAGE = 4096, PAGES = 512, DONT_NEED = 4, READ = 1, SHARED = 1;

const linux = Deno.build.os === "linux";

function openLibc() {
  return Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
    mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
    mincore: { parameters: ["pointer", "usize", "buffer"], result: "i32" },
    munmap: { parameters: ["pointer", "usize"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  });
}

Deno.test({
  name: "fillPageCache() brings the asked part of a file into memory that is not the process's",
  ignore: !linux,
  fn: async () => {
    await using folder = await temporaryFolder();
    const path = `${folder.path}/file`, file = await Deno.open(path, { write: true, create: true });
    await file.write(new Uint8Array(PAGES * PAGE).fill(7));
    await file.sync();
    file.close();
    const libc = openLibc();
    const { open, posix_fadvise, mmap, mincore, munmap, close } = libc.symbols, size = BigInt(PAGES * PAGE);
    const fd = open(new TextEncoder().encode(`${path}\0`), 0);
    const inCache = () => {
      const flags = new Uint8Array(PAGES), at = mmap(null, size, READ, SHARED, fd, 0n);
      mincore(at, size, flags);
      munmap(at, size);
      return flags.map((flag) => flag & 1);
    };
    posix_fadvise(fd, 0n, 0n, DONT_NEED);
    const forgotten = inCache().every((flag) => flag === 0);
    await fillPageCache(path, 100 * PAGE, 200 * PAGE);
    const there = inCache();
    close(fd);
    libc.close();
    assertEquals(there.subarray(100, 300).indexOf(0), -1, "a page is not there");
    // A file system in memory forgets nothing; others read somewhat ahead.
    if (forgotten) assertEquals(there.subarray(0, 100).indexOf(1), -1, "a page before the part is there");
  },
});

Deno.test("fillPageCache() does nothing about a file that is absent or shorter, and keeps none open", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/file`;
  await fillPageCache(path, 0, 10);
  await Deno.writeFile(path, new Uint8Array(10));
  await fillPageCache(path, 5, 100);
  await fillPageCache(path, 50, 0);
  await fillPageCache(folder.path, 0, 10);
  if (!linux) return;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    let open = "";
    try {
      open = Deno.readLinkSync(`/proc/self/fd/${name}`);
    } catch {
      // closed meanwhile
    }
    assert(!open.startsWith(folder.path), `${open} is still open`);
  }
});

Deno.test({
  name: "fillPageCache() asks for no permission",
  permissions: { read: true },
  fn: () => fillPageCache("notebooks/checkpoints/tiny-mixtral/config.json", 0, 10),
});

Deno.test({
  name: "fillPageCache() writes to nobody's memory when the thread that called it has ended",
  ignore: !linux,
  fn: async () => {
    await using folder = await temporaryFolder();
    const path = `${folder.path}/file`, module = import.meta.resolve("../../lib/checkpoint/fill_page_cache.ts");
    await Deno.writeFile(path, new Uint8Array());
    await Deno.truncate(path, 2 ** 30); // nothing but a hole
    await Deno.writeTextFile(
      `${folder.path}/worker.ts`,
      `import { fillPageCache } from "${module}";
      fillPageCache(${JSON.stringify(path)}, 0, 2 ** 30);
      setTimeout(() => self.postMessage("under way"), 10);`,
    );
    // In a process of its own, which may end for it. What the worker held is free when it has ended, and given to the next who asks.
    await Deno.writeTextFile(
      `${folder.path}/main.ts`,
      `for (let round = 0; round < 5; round++) {
        const worker = new Worker(import.meta.resolve("./worker.ts"), { type: "module" });
        await new Promise((resolve) => worker.onmessage = resolve);
        worker.terminate();
        await new Promise((resolve) => setTimeout(resolve, 20));
        const blocks = Array.from({ length: 40 }, () => new Uint8Array(2 ** 21).fill(7));
        await new Promise((resolve) => setTimeout(resolve, 200));
        if (blocks.some((block) => block.some((value) => value !== 7))) throw new Error("somebody else's memory was written");
      }`,
    );
    await runDeno(["run", "-A", "--no-check", "--no-config", "--no-lock", `${folder.path}/main.ts`]);
  },
});
