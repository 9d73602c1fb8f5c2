/** The browser that pages are tested in. */

import { type Browser, type BrowserContextOptions, chromium, type Page } from "npm:playwright-core@1.65.1";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

async function find(): Promise<string | undefined> {
  for (const path of PLACES) if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
}

const executablePath = await find();
if (!executablePath) console.log("No Chromium found: the tests of pages in a browser are left out (Debian: apt install chromium).");

/** Whether there is one. */
export const hasChromium: boolean = executablePath !== undefined;

/** Milliseconds for something to be seen, on a machine that does much else. */
const SEEN = 120_000;

/** Starts it; close it. */
export function openChromium(): Promise<Browser> {
  return chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: SEEN });
}

/** A page of its own, on which everything has {@linkcode SEEN} to happen. */
export async function openPage(browser: Browser, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(SEEN);
  return page;
}
