/**
 * What outputs tell of the machine they were made on.
 *
 * @module
 */

import { stripVTControlCharacters } from "node:util";

/** Text or JSON without terminal codes, and with paths in a folder relative to it. */
export function withoutMachine<T>(value: T, folder: string): T {
  const inside = folder.replace(/\/?$/, "/");
  return JSON.parse(
    JSON.stringify(value),
    (_, leaf) => typeof leaf === "string" ? stripVTControlCharacters(leaf).replaceAll(`file://${inside}`, "").replaceAll(inside, "") : leaf,
  );
}

/** The first path of a machine in a text or JSON. */
export function machinePath(value: unknown): string | undefined {
  return JSON.stringify(value).match(
    /file:\/\/|\b[A-Z]:\\\\\w|(?<![\w.:/])\/(?:home|root|tmp|work|Users|usr|var|opt|mnt|private)\/[^"\s]*/,
  )?.[0];
}
