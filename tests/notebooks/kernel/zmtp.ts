/**
 * The client side of ZMTP 3.0 (https://rfc.zeromq.org/spec/23) without security: as much of ZeroMQ as a Jupyter kernel needs.
 * The npm library `zeromq` 6.8.0 loads in Deno 2.9.6, but three in ten programs that send one message with it hang: wake-ups get lost.
 *
 * @module
 */

const encoder = new TextEncoder();
const MORE = 1, LONG = 2, COMMAND = 4;

/** A connection; a message is a list of frames. Closed when disposed. */
export interface Socket extends Disposable {
  send(frames: readonly (string | Uint8Array)[]): Promise<void>;
  /** Messages as they come, until the connection ends. */
  messages(): AsyncGenerator<Uint8Array[]>;
}

/** Connects to a port of this machine. A SUB socket gets every message. */
export async function connect(port: number, type: "DEALER" | "SUB"): Promise<Socket> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    await writeAll(connection, greeting());
    await readAll(connection, 64);
    await writeAll(connection, frame(ready(type), COMMAND));
    await readFrame(connection);
    if (type === "SUB") await writeAll(connection, frame(Uint8Array.of(1), 0));
  } catch (error) {
    connection.close();
    throw error;
  }
  return {
    async send(frames) {
      const bytes = frames.map((data) => typeof data === "string" ? encoder.encode(data) : data);
      await writeAll(connection, concat(bytes.map((data, i) => frame(data, i < bytes.length - 1 ? MORE : 0))));
    },
    async *messages() {
      for (let frames: Uint8Array[] = [];;) {
        const next = await readFrame(connection).catch(() => undefined);
        if (next === undefined) return;
        if (next.flags & COMMAND) continue;
        frames.push(next.data);
        if (next.flags & MORE) continue;
        yield frames;
        frames = [];
      }
    },
    [Symbol.dispose]: () => connection.close(),
  };
}

/** Signature, version 3.0, mechanism NULL, not a server. */
function greeting(): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]);
  bytes.set(encoder.encode("NULL"), 12);
  return bytes;
}

/** The command READY with the property Socket-Type: names with a length of one byte, values with one of four. */
function ready(type: string): Uint8Array {
  const text = (value: string) => [value.length, ...encoder.encode(value)];
  return Uint8Array.from([...text("READY"), ...text("Socket-Type"), 0, 0, 0, ...text(type)]);
}

function frame(data: Uint8Array, flags: number): Uint8Array {
  if (data.length < 256) return concat([Uint8Array.of(flags, data.length), data]);
  const head = new Uint8Array(9);
  head[0] = flags | LONG;
  new DataView(head.buffer).setBigUint64(1, BigInt(data.length));
  return concat([head, data]);
}

async function readFrame(connection: Deno.Conn): Promise<{ flags: number; data: Uint8Array }> {
  const [flags] = await readAll(connection, 1), long = (flags & LONG) > 0;
  const size = await readAll(connection, long ? 8 : 1);
  return { flags, data: await readAll(connection, long ? Number(new DataView(size.buffer).getBigUint64(0)) : size[0]) };
}

async function readAll(connection: Deno.Conn, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const read = await connection.read(bytes.subarray(at));
    if (read === null) throw new Error(`Cannot read from a kernel: expected ${length} bytes, found ${at}`);
    at += read;
  }
  return bytes;
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
