/** A report is one page that needs nothing else, and lives. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as winnow from "../../mod.ts";
import { hasChromium, openChromium, openPage } from "../chromium.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { runDeno } from "../run_deno.ts";
import { charts, HOSTILE, lineage, tables } from "./samples.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

const run: winnow.Run = {
  title: `A run ${HOSTILE}`,
  sections: [
    { heading: "Loss", text: "The first.\n\nThe second <b>paragraph</b>.", shown: charts["lossCurve()"]() },
    { heading: "Importance", shown: charts["expertImportance()"]() },
    {
      heading: HOSTILE,
      text: HOSTILE,
      shown: winnow.table([{ model: "b", size: 10 }, { model: "a", size: 9 }, { model: HOSTILE, size: NaN }]),
    },
    { shown: { "text/plain": `${HOSTILE}\n  indented` } },
  ],
  lineage,
  recipe: { ratio: 0.25, scores: Float64Array.of(1, 2), name: HOSTILE },
  versions: { winnow: "0.1.0", deno: "2.9.6" },
};

Deno.test("report() writes lineage, stages, recipe and versions beside what was shown, and replaces a page", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/a/report.html`;
  await winnow.report({ title: "Old", sections: [], versions: {} }, path);
  const old = await Deno.readTextFile(path);
  assert(old.length < 20_000, "no chart, no plotly");
  const { bytes } = await winnow.report(run, path), page = await Deno.readTextFile(path);
  assertEquals(bytes, (await Deno.stat(path)).size);
  assertEquals([...Deno.readDirSync(`${folder.path}/a`)].map(({ name }) => name), ["report.html"], "nothing is left beside it");
  const headings = [...page.matchAll(/<h2>(.*?)<\/h2>/g)].map(([, heading]) => heading);
  assertEquals(headings.filter((heading) => !heading.includes("script")), [
    "Loss",
    "Importance",
    "Lineage",
    "Stages",
    "Recipe",
    "Versions",
  ]);
  for (
    const words of [
      "<p>The first.</p>\n<p>The second &lt;b&gt;paragraph",
      "options.ratio 0.25 -&gt; 0.5",
      "&quot;ratio&quot;: 0.25",
      "2.9.6",
      "  indented",
    ]
  ) {
    assert(page.includes(words), words);
  }
  assert(!page.includes('<script>alert("x")'), "names are text");
});

Deno.test("report() shows every kind of display", async () => {
  await using folder = await temporaryFolder();
  const shown = [...Object.values(charts), ...Object.values(tables)].map((draw) => draw()), path = `${folder.path}/report.html`;
  await winnow.report({ title: "All", sections: shown.map((shown) => ({ shown })), versions: {} }, path);
  const page = await Deno.readTextFile(path);
  assertEquals(page.match(/<figure class="chart"><img alt="[^"]+" src="data:image\/svg\+xml;base64,/g)?.length, Object.keys(charts).length);
  assertEquals(page.match(/<table class="winnow-table/g)?.length, Object.keys(tables).length + 1);
});

Deno.test("report() leaves what is there where it cannot write", async () => {
  await using folder = await temporaryFolder();
  await Deno.mkdir(`${folder.path}/report.html`);
  await assertRejects(() => winnow.report({ title: "", sections: [], versions: {} }, `${folder.path}/report.html`), Error, "Cannot write");
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["report.html"]);
  await assertRejects(() => winnow.report({ ...run, sections: [{ shown: {} as never }] }, "x.html"), TypeError, 'at least as "text/plain"');
  await assertRejects(() => winnow.report(run, undefined as never), TypeError, "expected the path of a file, found nothing");
});

Deno.test("mod.ts reads plotly.js and Graphviz only when they are needed", async () => {
  const { modules }: { modules: { dependencies?: { specifier: string; isDynamic?: boolean }[] }[] } = JSON.parse(
    await runDeno(["info", "--json", `${root}mod.ts`]),
  );
  const large = modules.flatMap(({ dependencies = [] }) => dependencies).filter(({ specifier }) =>
    /plotly\.js-dist|viz-js/.test(specifier)
  );
  assertEquals(large.map(({ isDynamic }) => isDynamic), [true, true]);
});

Deno.test("report() works where mod.ts was imported by its URL", async () => {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname, file = await Deno.readFile(`${root}${path.slice(1)}`).catch(() => undefined);
    const type = path.endsWith(".ts") ? "application/typescript" : "text/plain";
    return file ? new Response(file, { headers: { "content-type": type } }) : new Response("not found", { status: 404 });
  });
  await using folder = await temporaryFolder();
  const script = `
    import { lossCurve, report, table } from "http://127.0.0.1:${server.addr.port}/mod.ts";
    const shown = lossCurve({ tuned: [{ step: 1, loss: 2 }, { step: 2, loss: 1 }] });
    await report({ title: "Far", sections: [{ shown }, { shown: table([{ a: 1 }]) }], versions: {} }, "report.html");
  `;
  try {
    await Deno.writeTextFile(`${folder.path}/script.ts`, script);
    await runDeno(["run", "-A", "--no-config", "--no-lock", "script.ts"], { cwd: folder.path });
    assertMatch(await Deno.readTextFile(`${folder.path}/report.html`), /plotly\.js v4[^]*Plotly\.newPlot/);
  } finally {
    await server.shutdown();
  }
});

Deno.test({
  name: "a report in Chromium: charts zoom, tables sort, no name runs, no request leaves the page",
  ignore: !hasChromium,
  fn: async () => {
    await using folder = await temporaryFolder();
    await winnow.report(run, `${folder.path}/report.html`);
    const browser = await openChromium();
    try {
      const page = await openPage(browser, { viewport: { width: 1000, height: 900 } }), requests: string[] = [], trouble: string[] = [];
      page.on("request", (request) => requests.push(request.url()));
      page.on("pageerror", (error) => trouble.push(`${error}`));
      page.on("dialog", (dialog) => trouble.push(dialog.message()));
      page.on("console", (message) => message.type() === "error" && trouble.push(message.text()));
      const address = pathToFileURL(`${folder.path}/report.html`).href;
      await page.goto(address);
      await page.waitForFunction('document.querySelectorAll(".js-plotly-plot .main-svg").length >= 4');

      // deno-lint-ignore no-explicit-any
      const range = () => page.evaluate("document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range.map(Number)") as Promise<any>;
      const whole: [number, number] = await range(), box = (await page.locator(".js-plotly-plot .nsewdrag").first().boundingBox())!;
      assertEquals(whole, [1, 40]);
      await page.mouse.move(box.x + 0.25 * box.width, box.y + 0.5 * box.height);
      await page.mouse.down();
      await page.mouse.move(box.x + 0.75 * box.width, box.y + 0.5 * box.height, { steps: 8 });
      await page.mouse.up();
      await page.waitForFunction("document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range[1] < 39");
      const zoomed: [number, number] = await range();
      for (const [i, want] of [1 + 39 * 0.25, 1 + 39 * 0.75].entries()) assert(Math.abs(zoomed[i] - want) < 0.5, `${zoomed}`);
      assertEquals(await page.locator("figure.chart > img:visible").count(), 0, "images give way to live charts");

      const table = page.locator(".winnow-table").first(), sizes = () => table.locator("tbody tr td:nth-child(2)").allInnerTexts();
      assertEquals(await sizes(), ["10", "9", "NaN"]);
      await table.locator("th").nth(1).click();
      assertEquals(await sizes(), ["9", "10", "NaN"], "by number, not by letters");
      await table.locator("th").nth(1).focus();
      await page.keyboard.press("Enter");
      assertEquals(await sizes(), ["10", "9", "NaN"], "the other way round, what is no number last");
      assertEquals(await table.locator("th").nth(1).getAttribute("aria-sort"), "descending");
      await table.locator("th").first().click();
      assertEquals((await sizes()).slice(1), ["9", "10"], "letters: a before b");

      assertEquals(requests.filter((url) => !/^(data|blob):/.test(url)), [address]);
      assertEquals(trouble, []);
    } finally {
      await browser.close();
    }
  },
});

Deno.test({
  name: "a report in Chromium: what was put into it cannot ask the network for anything, and images stand where scripts do not run",
  ignore: !hasChromium,
  fn: async () => {
    let asked = 0;
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
      asked++;
      return new Response("");
    });
    await using folder = await temporaryFolder();
    const there = `http://127.0.0.1:${server.addr.port}/`, browser = await openChromium();
    try {
      const html =
        `<img src="${there}image"><script>fetch("${there}fetch").catch(() => {}); document.title = "ran";</script><link rel="stylesheet" href="${there}style">`;
      const sections = [{ shown: { "text/html": html, "text/plain": "" } }, { shown: charts["rankMap()"]() }];
      await winnow.report({ title: "Curious", sections, versions: {} }, `${folder.path}/report.html`);
      const address = pathToFileURL(`${folder.path}/report.html`).href, page = await openPage(browser);
      await page.goto(address, { waitUntil: "load" });
      await page.waitForFunction('document.querySelector(".js-plotly-plot .main-svg")');
      assertEquals(await page.title(), "ran", "the script was tried");
      const still = await openPage(browser, { javaScriptEnabled: false });
      await still.goto(address, { waitUntil: "load" });
      assertEquals(await still.locator("figure.chart > img:visible").count(), 1);
      assertEquals(asked, 0);
    } finally {
      await browser.close();
      await server.shutdown();
    }
  },
});
