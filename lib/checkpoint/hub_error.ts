/**
 * What to do when the hub says no.
 *
 * @module
 */

/**
 * Turns an error of the hub or of its library into a sentence that says what to do about it.
 *
 * @param error What was thrown.
 * @param location What was to be read, `hf://owner/name@revision` or a file of it.
 * @param hub The address to look at, and whether a token was sent.
 * @returns The error to throw; the original is its `cause`. Errors that already are sentences of ours come back as they are.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const thrown = Object.assign(new Error("Api error"), { statusCode: 403 });
 * const { message } = hubError(thrown, "hf://owner/name@main", { page: "https://huggingface.co/owner/name", token: true });
 * assertMatch(message, /accept the licence on https:\/\/huggingface.co\/owner\/name/);
 * ```
 */
export function hubError(error: unknown, location: string, { page, token }: { page: string; token: boolean }): Error {
  if (error instanceof Error && error.message.startsWith("Cannot ")) return error;
  const status = (error as { statusCode?: number } | undefined)?.statusCode;
  return new Error(`Cannot read "${location}": ${explain(status, page, token)}`, { cause: error });
}

function explain(status: number | undefined, page: string, token: boolean): string {
  switch (status) {
    case 401:
      return token
        ? `the hub does not accept the token (401), check HF_TOKEN and that ${page} exists`
        : `${page} does not exist or is not public (401), check the spelling or set HF_TOKEN`;
    case 403:
      return `the hub does not allow it (403), accept the licence on ${page} and ${
        token ? "check that HF_TOKEN may read it" : "set HF_TOKEN"
      }`;
    case 404:
      return `${page} has no such ${page.includes("/datasets/") ? "dataset" : "model"}, revision or file (404), check the spelling`;
    case undefined:
      return "the answer of the hub cannot be used";
    default:
      return `the hub answered ${status}`;
  }
}
