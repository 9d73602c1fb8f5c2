/**
 * What the environment says about the hub, by the rules of its Python client.
 *
 * @module
 */

import { join } from "node:path";
import type { OpenOptions } from "./source.ts";

/** Where the hub and its cache are, and who asks. */
export interface HubSettings {
  /** Address of the hub, without a slash at the end. */
  hubUrl: string;
  /** Folder that the hub's clients share. */
  cacheDir: string;
  /** Access token; undefined for an anonymous reader. */
  token?: string;
  /** Nothing but the cache may be used. */
  offline: boolean;
}

/**
 * Completes the options from the environment: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`.
 *
 * A variable that Deno may not read counts as not set.
 *
 * @param options What the caller says goes first.
 * @param env Gives a variable's value.
 * @returns The settings.
 * @throws {Error} If neither the options nor the environment tell where the cache is.
 * @throws {TypeError} If the hub's address is not one.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const env: Record<string, string> = { HF_HOME: "/models", HF_ENDPOINT: "https://mirror.example/", HF_HUB_OFFLINE: "1" };
 * const { cacheDir, hubUrl, offline } = await hubSettings({ token: "hf_abc" }, (name) => env[name]);
 * assertEquals([cacheDir, hubUrl, offline], ["/models/hub", "https://mirror.example", true]);
 * ```
 */
export async function hubSettings(options: OpenOptions, env: (name: string) => string | undefined = permittedEnv): Promise<HubSettings> {
  const userHome = env("HOME") ?? env("USERPROFILE");
  const expand = (path: string | undefined) => path && userHome ? path.replace(/^~(?=$|[\\/])/, userHome) : path;
  const cacheHome = expand(env("XDG_CACHE_HOME")) ?? (userHome && join(userHome, ".cache"));
  const home = expand(env("HF_HOME")) ?? (cacheHome && join(cacheHome, "huggingface"));
  const cacheDir = options.cacheDir ?? expand(env("HF_HUB_CACHE") ?? env("HUGGINGFACE_HUB_CACHE")) ?? (home && join(home, "hub"));
  if (cacheDir === undefined) {
    throw new Error('Cannot open the hub: its cache folder is not known, pass "cacheDir" or run Deno with --allow-env');
  }
  const hubUrl = (options.hubUrl ?? env("HF_ENDPOINT") ?? "https://huggingface.co").replace(/\/+$/, "");
  if (!URL.canParse(hubUrl)) {
    throw new TypeError(`Cannot open the hub: expected an address such as "https://huggingface.co", found "${hubUrl}"`);
  }
  const tokenPath = expand(env("HF_TOKEN_PATH")) ?? (home && join(home, "token"));
  return {
    hubUrl,
    cacheDir,
    token: options.token?.trim() || env("HF_TOKEN")?.trim() || await tokenFrom(tokenPath),
    offline: /^(1|on|yes|true)$/i.test(env("HF_HUB_OFFLINE") ?? ""),
  };
}

/** The token that a login left; none when there is no such file or it may not be read. */
async function tokenFrom(path: string | undefined): Promise<string | undefined> {
  const text = path && await Deno.readTextFile(path).catch(() => undefined);
  return text?.trim() || undefined;
}

function permittedEnv(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}
