/**
 * Clients of the kernel that other people use: nbclient, nbconvert and JupyterLab from PyPI, and a browser. They lie in a cache outside of
 * the tree, and are run so that the user's own Jupyter is neither seen nor changed.
 *
 * @module
 */

import { recipeHash } from "../../../mod.ts";

/** The plotly package brings the extension that lets JupyterLab draw `application/vnd.plotly.v1+json`. */
export const PACKAGES = ["jupyterlab==4.6.6", "nbclient==0.11.0", "nbconvert==7.17.2", "plotly==7.1.0"];

const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where these packages lie, whether they are there or not. */
export async function clientsFolder(): Promise<string> {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`;
  return `${cache}/winnow/clients-${(await recipeHash(PACKAGES)).slice(0, 12)}`;
}

export interface Clients {
  /** Has `jupyter-lab` and others. */
  bin: string;
  /** Path of a browser of the Chromium family. */
  browser?: string;
}

/** Written last into the folder of the clients. */
export const COMPLETE = "complete.json";

/** What is installed here; says in one line what is not. Waits for an installation that is under way. */
export async function findClients(): Promise<Clients | undefined> {
  const folder = await clientsFolder(), exists = (path: string) => Deno.stat(path).then(() => true, () => false);
  if (await exists(`${folder}.lock`)) {
    using lock = await Deno.open(`${folder}.lock`);
    await lock.lock();
  }
  if (!await exists(`${folder}/${COMPLETE}`)) {
    console.log("No notebook clients found: the tests with nbclient and JupyterLab are left out (`deno task clients` installs them).");
    return;
  }
  const asked = Deno.env.get("WINNOW_BROWSER"), found = await Promise.all((asked ? [asked] : BROWSERS).map(exists));
  const browser = asked ?? BROWSERS[found.indexOf(true)];
  if (!found.includes(true)) {
    console.log("No browser found: the test with JupyterLab is left out (Debian: apt install chromium; or WINNOW_BROWSER=path).");
  }
  return { bin: `${folder}/bin`, browser: found.includes(true) ? browser : undefined };
}

/**
 * Prepares a folder for one run of a client: a kernelspec for the Deno that runs now, and no settings of the user.
 *
 * @returns Variables for the environment of the client.
 */
export async function clientEnvironment(folder: string): Promise<Record<string, string>> {
  const spec = {
    argv: [Deno.execPath(), "jupyter", "--kernel", "--conn", "{connection_file}"],
    display_name: "Deno",
    language: "typescript",
    env: { NO_COLOR: "1" },
  };
  await write(`${folder}/data/kernels/deno/kernel.json`, spec);
  await write(`${folder}/settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings`, {
    fetchNews: "false",
    checkForUpdates: false,
  });
  // All cells are in the page, those that are out of sight too.
  await write(`${folder}/settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings`, { windowingMode: "none" });
  return {
    ...{ JUPYTER_DATA_DIR: `${folder}/data`, JUPYTER_CONFIG_DIR: `${folder}/config`, JUPYTER_RUNTIME_DIR: `${folder}/runtime` },
    ...{ JUPYTERLAB_SETTINGS_DIR: `${folder}/settings`, JUPYTERLAB_WORKSPACES_DIR: `${folder}/workspaces`, NO_COLOR: "1" },
  };
}

async function write(path: string, data: unknown): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(path, JSON.stringify(data));
}
