/**
 * Checkpoints and datasets on the Hugging Face hub.
 *
 * @module
 */

import { hubCache } from "./hub_cache.ts";
import { hubError } from "./hub_error.ts";
import { hubFiles } from "./hub_files.ts";
import { hubSettings } from "./hub_settings.ts";
import { resilientFetch } from "./resilient_fetch.ts";
import type { OpenOptions, Source } from "./source.ts";

/**
 * Opens a model or dataset on the hub at the commit that its revision points to now; later pushes do not change it.
 *
 * Files that any client has downloaded before come from the shared cache. Of others, the small ones that are read whole are
 * downloaded into the cache, the large ones are read by byte range. Without a network the cache alone is used.
 *
 * @param location `hf://owner/name@revision` or `hf://datasets/owner/name@revision`; the revision may hold slashes, as in `refs/pr/3`,
 * and is `main` if absent.
 * @param options Token, cache, address of the hub; attempts and waits.
 * @returns The source; its location names the commit.
 * @throws {TypeError} If the location is not of that form.
 * @throws {Error} If the hub refuses, or cannot be reached and the revision is not in the cache.
 *
 * @example
 * ```ts
 * import { assertRejects } from "@std/assert";
 * await assertRejects(() => hubSource("hf://owner/name/folder"), TypeError, "expected hf://owner/name@revision");
 * ```
 */
export async function hubSource(location: string, options: OpenOptions = {}): Promise<Source> {
  const { repository, revision } = parseLocation(location);
  const { hubUrl, cacheDir, token, offline } = await hubSettings(options);
  const cache = hubCache(cacheDir, repository);
  const hub = { page: `${hubUrl}/${repository}`, token: token !== undefined };
  const send = (network: OpenOptions) => authorised(resilientFetch(network), hubUrl, token);
  const fail = (error: unknown, what: string): never => {
    options.signal?.throwIfAborted();
    throw hubError(error, what, hub);
  };
  const files = (commit: string, offline: boolean) => hubFiles({ repository, commit, hubUrl, fetch: send(options), cache, offline, fail });

  if (isCommit(revision)) return files(revision, offline);
  const known = await cache.commitOf(revision);
  if (offline) {
    if (known !== undefined) return files(known, true);
    throw new Error(`Cannot open "${location}": it is not in the cache at "${cacheDir}", and HF_HUB_OFFLINE forbids to download it`);
  }
  // With an earlier commit to fall back on, one attempt is enough to tell whether there is a network.
  const network = known === undefined ? options : { ...options, retries: 0, patience: 10_000 };
  const { datasetInfo, modelInfo, HubApiError } = await import("npm:@huggingface/hub@2.17.5");
  const name = repository.replace(/^datasets\//, "");
  const asked = { name, revision, additionalFields: ["sha" as const], hubUrl, fetch: send(network) };
  try {
    const { sha } = await (name === repository ? modelInfo(asked) : datasetInfo(asked));
    if (!isCommit(sha)) throw new Error("The hub gave no commit");
    if (sha !== known) await cache.noteCommit(revision, sha);
    return files(sha, false);
  } catch (error) {
    if (known === undefined || error instanceof HubApiError) return fail(error, location);
    options.signal?.throwIfAborted();
    return files(known, true);
  }
}

const isCommit = (revision: unknown) => typeof revision === "string" && /^[0-9a-f]{40}$/.test(revision);

function parseLocation(location: string): { repository: string; revision: string } {
  const [, repository, revision = "main"] = /^hf:\/\/((?:datasets\/)?\w[\w.-]*(?:\/\w[\w.-]*)?)\/?(?:@(.+))?$/i.exec(location) ?? [];
  // The revision becomes a path in the cache.
  if (repository === undefined || revision.includes("\\") || revision.split("/").some((part) => ["", ".", ".."].includes(part))) {
    throw new TypeError(
      `Cannot open "${location}": expected hf://owner/name@revision or hf://datasets/owner/name@revision, the revision being a branch, tag or commit`,
    );
  }
  return { repository, revision };
}

/** Sends the token to the hub and to nobody else: the library's own way demands tokens that begin with "hf_", which mirrors do not give. */
function authorised(request: typeof fetch, hubUrl: string, token: string | undefined): typeof fetch {
  const { origin } = new URL(hubUrl);
  return (input, init) => {
    const headers = new Headers(init?.headers);
    const url = new URL(input instanceof Request ? input.url : input);
    if (token !== undefined && url.origin === origin && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${token}`);
    return request(input, { ...init, headers });
  };
}
