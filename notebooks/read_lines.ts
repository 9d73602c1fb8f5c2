/** Reads files of JSON lines, wherever a notebook has them from. */

import { openSource } from "../lib/checkpoint/open_source.ts";

/**
 * Reads a file of JSON lines.
 *
 * @param location Where it lies: in a folder, or under an `https://` address.
 * @throws {Error} If there is no such file.
 */
export async function readLines<T>(location: string): Promise<T[]> {
  const cut = location.lastIndexOf("/"), name = location.slice(cut + 1), text = await (await openSource(location.slice(0, cut))).text(name);
  if (text === undefined) throw new Error(`Cannot read "${location}": there is no such file`);
  return text.trim().split("\n").map((line) => JSON.parse(line));
}
