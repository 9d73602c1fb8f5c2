/**
 * Messages of the Jupyter protocol 5.3 as frames: a delimiter, a signature, and four parts of JSON.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";

/** Who says what; as a parent, what is answered. */
export interface Header {
  msg_id: string;
  msg_type: string;
  session: string;
  username: string;
  date: string;
  version: string;
}

export interface Message {
  header: Header;
  parent: Partial<Header>;
  // deno-lint-ignore no-explicit-any
  content: any;
}

const DELIMITER = "<IDS|MSG>";

export function newHeader(type: string, session: string): Header {
  return { msg_id: crypto.randomUUID(), msg_type: type, session, username: "winnow", date: new Date().toISOString(), version: "5.3" };
}

export function encodeMessage(key: string, { header, parent, content }: Message): string[] {
  const parts = [header, parent, {}, content].map((part) => JSON.stringify(part));
  return [DELIMITER, sign(key, parts), ...parts];
}

/** @throws {Error} If the signature is not that of the parts. */
export function decodeMessage(key: string, frames: readonly Uint8Array[]): Message {
  const texts = frames.map((frame) => Buffer.from(frame).toString()), at = texts.indexOf(DELIMITER), parts = texts.slice(at + 2, at + 6);
  if (at < 0 || sign(key, parts) !== texts[at + 1]) {
    throw new Error(`Cannot read a message of a kernel: expected a signed one, found ${frames.length} frames without a valid signature`);
  }
  const [header, parent, , content] = parts.map((part) => JSON.parse(part));
  return { header, parent, content };
}

function sign(key: string, parts: readonly string[]): string {
  const hmac = createHmac("sha256", key);
  for (const part of parts) hmac.update(part);
  return hmac.digest("hex");
}
