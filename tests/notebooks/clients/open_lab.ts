/**
 * JupyterLab in a browser, driven as a person would.
 *
 * @module
 */

import { type Browser, chromium, type Locator, type Page } from "npm:playwright-core@1.65.1";
import { type Cell, parseNotebook } from "../notebook_file.ts";
import { ROOT } from "../working_copy.ts";
import { clientEnvironment, type Clients } from "./environment.ts";
import { openPage } from "../../chromium.ts";

/** Milliseconds: for the server to answer, for a page or kernel to be ready, and for a cell to finish. */
const SERVER = 180_000, CELL = 300_000;

/** A notebook that is open in JupyterLab, its cells by their ids. Disposing it ends browser, kernel, and server. */
export interface Lab extends AsyncDisposable {
  readonly page: Page;
  /** Id of the last cell that is code. */
  readonly last: string;
  /** A cell, and what it has put out. */
  cell(id: string): Locator;
  output(id: string): Locator;
  /** Changes a part of a cell's source in its editor. */
  edit(id: string, from: string, to: string): Promise<void>;
  /** Begins to run a cell, or all. */
  run(id: string): Promise<void>;
  runAll(): Promise<void>;
  /** Waits until a cell that was begun has ended, and the kernel is idle; gives the cell's execution count. */
  finish(id: string): Promise<number>;
  /** What cells put out as errors. */
  errors(): Promise<string[]>;
  /** Presses Stop. */
  stop(): Promise<void>;
  /** Saves a picture of a cell, or of the whole page, in the folder WINNOW_SCREENSHOTS, or out/screenshots. */
  screenshot(name: string, id?: string): Promise<void>;
}

/**
 * Opens a notebook of a folder. Its kernel runs when this returns; a start that fails is tried once more.
 *
 * @param folder Root of what JupyterLab shows; is left as it is but for the notebook, and what its cells write.
 * @param notebook Path in the folder.
 */
export async function openLab(clients: Clients, folder: string, notebook: string, env: Record<string, string> = {}): Promise<Lab> {
  const { cells } = parseNotebook(await Deno.readTextFile(`${folder}/${notebook}`));
  const own = await Deno.makeTempDir(), closing: (() => Promise<unknown>)[] = [() => Deno.remove(own, { recursive: true })];
  const close = async () => {
    for (const end of closing.reverse()) await end().catch((error) => console.error(`Cannot close JupyterLab: ${error.message}`));
  };
  try {
    const server = await startServer(clients, folder, { ...await clientEnvironment(own), ...env });
    closing.push(server.close);
    const browser: Browser = await chromium.launch({ executablePath: clients.browser, args: ["--no-sandbox", "--disable-gpu"] });
    closing.push(() => browser.close());
    const page = await openPage(browser, { viewport: { width: 1200, height: 1400 } });
    await page.goto(`${server.url}/doc/tree/${notebook}?token=${server.token}&reset`);
    await kernelReady(page).catch(() => page.reload().then(() => kernelReady(page)));
    return { ...controls(page, cells), page, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The status bar tells of the connection to the kernel too; the circle in the toolbar is there before any kernel is. */
async function kernelReady(page: Page): Promise<void> {
  await page.locator("#jp-main-statusbar").getByText("Deno | Idle").waitFor();
}

function controls(page: Page, cells: Cell[]): Omit<Lab, "page" | typeof Symbol.asyncDispose> {
  const ids = cells.map(({ id }) => id), sources = new Map(cells.map(({ id, source }) => [id, source]));
  const last = cells.findLast(({ cell_type }) => cell_type === "code")!.id;
  const cell = (id: string) => {
    if (!ids.includes(id)) throw new Error(`Cannot find a cell: expected one of ${ids.join(", ")}, found "${id}"`);
    return page.locator(".jp-Notebook .jp-Cell").nth(ids.indexOf(id));
  };
  const output = (id: string) => cell(id).locator(".jp-Cell-outputArea");
  const prompt = (id: string) => cell(id).locator(".jp-InputArea-prompt");
  const editor = (id: string) => cell(id).locator(".cm-content");
  /** Begins something, and waits until the prompt of a cell tells that it has begun. */
  const begin = async (id: string, start: () => Promise<void>) => {
    const before = (await prompt(id).textContent())!;
    await start();
    await prompt(id).filter({ hasNotText: before }).waitFor();
  };

  return {
    last,
    cell,
    output,
    async edit(id, from, to) {
      const source = sources.get(id)!, changed = source.replace(from, to);
      if (changed === source) throw new Error(`Cannot change cell "${id}": expected "${from}" in it, found\n${source}`);
      sources.set(id, changed);
      await editor(id).click();
      await page.keyboard.press("ControlOrMeta+A");
      await page.keyboard.insertText(changed);
    },
    run: (id) =>
      begin(id, async () => {
        await editor(id).click();
        await page.keyboard.press("Control+Enter");
      }),
    runAll: () =>
      begin(last, async () => {
        await page.locator(".lm-MenuBar-item", { hasText: /^Run$/ }).click();
        await page.locator(".lm-Menu-item", { hasText: /^Run All Cells/ }).click();
      }),
    async finish(id) {
      await prompt(id).filter({ hasText: /\[\d+\]/ }).waitFor({ timeout: CELL });
      await kernelReady(page);
      return Number((await prompt(id).textContent())!.match(/\d+/)![0]);
    },
    errors: () =>
      page.locator('[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type="application/vnd.jupyter.error"]').allTextContents(),
    async stop() {
      await page.locator('[data-command="notebook:interrupt-kernel"]').click();
    },
    async screenshot(name, id) {
      const path = `${Deno.env.get("WINNOW_SCREENSHOTS") ?? `${ROOT}out/screenshots`}/${name}.png`;
      await (id ? cell(id) : page).screenshot({ path });
    },
  };
}

/** A server on a free port of this machine, for those who know its token. */
async function startServer(
  { bin }: Clients,
  folder: string,
  env: Record<string, string>,
): Promise<{ url: string; token: string; close: () => Promise<void> }> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = listener.addr as Deno.NetAddr, token = crypto.randomUUID();
  listener.close();
  const options = {
    ...{ "ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0, "ServerApp.root_dir": folder },
    ...{ "IdentityProvider.token": token, "ServerApp.terminals_enabled": false },
  };
  const process = new Deno.Command(`${bin}/jupyter-lab`, {
    args: ["--no-browser", "--allow-root", ...Object.entries(options).map(([name, value]) => `--${name}=${value}`)],
    env,
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const log = new Response(process.stderr).text(), url = `http://127.0.0.1:${port}`;
  let ended = false;
  process.status.then(() => ended = true);
  const close = async () => {
    const signal = (name: Deno.Signal) => ended || process.kill(name), timer = setTimeout(() => signal("SIGKILL"), 30_000);
    signal("SIGTERM"); // it ends its kernels
    await process.status;
    clearTimeout(timer);
    await log;
  };
  for (const deadline = performance.now() + SERVER;;) {
    const answer = await fetch(`${url}/api/status?token=${token}`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) return { url, token, close };
    if (ended || performance.now() > deadline) {
      await close();
      throw new Error(`Cannot start JupyterLab: expected it to answer, found ${ended ? "its end" : "no answer"}\n${await log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
