/**
 * Deno's Jupyter kernel, driven without Python.
 *
 * @module
 */

import { decodeMessage, encodeMessage, type Message, newHeader } from "./message.ts";
import { connect, type Socket } from "./zmtp.ts";

/** A running kernel; disposing it ends it. */
export interface Kernel extends AsyncDisposable {
  /** What it says of its language, for the metadata of a notebook. */
  readonly language: { name: string; version: string };
  /**
   * Runs one cell. All that it published has been told when this returns, what came after the kernel called itself idle too.
   *
   * @returns The content of the kernel's reply: its status, and an error's name and message.
   * @throws {Error} If the kernel ends meanwhile.
   */
  execute(code: string, onOutput?: (message: Message) => void): Promise<Reply>;
  /** What the Stop button of a notebook does: SIGINT. */
  interrupt(): void;
}

export interface Reply {
  status: "ok" | "error";
  execution_count: number;
  ename?: string;
  evalue?: string;
}

/**
 * Starts a kernel and waits until it answers; starting is tried twice.
 *
 * @param options Its working folder, and variables of its environment besides those of this process.
 */
export async function startKernel(options: { cwd?: string; env?: Record<string, string> } = {}): Promise<Kernel> {
  return await start(options).catch(() => start(options)); // another process may have taken a port
}

/** What the kernel publishes, and how a line begins that it prints, once all earlier output has left it; a line is published whole. */
const DRAINED = "winnow_drained";
const CHANNELS = ["shell", "iopub", "control", "stdin", "hb"] as const;
/** Milliseconds: for the kernel to answer at first, between attempts to connect, and for it to end. */
const START = 60_000, AGAIN = 50, END = 5_000;

async function start({ cwd, env }: { cwd?: string; env?: Record<string, string> }): Promise<Kernel> {
  const key = crypto.randomUUID(), session = crypto.randomUUID(), ports = freePorts(CHANNELS.length);
  const file = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(
    file,
    JSON.stringify({
      ...{ ip: "127.0.0.1", transport: "tcp", key, signature_scheme: "hmac-sha256" },
      ...Object.fromEntries(CHANNELS.map((channel, i) => [`${channel}_port`, ports[i]])),
    }),
  );
  const process = new Deno.Command(Deno.execPath(), {
    args: ["jupyter", "--kernel", "--conn", file],
    cwd,
    env: { ...env, NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const log = new Response(process.stderr).text(), sockets: Socket[] = [], answers = new Map<string, (message: Message) => void>();
  let listener: ((message: Message) => void) | undefined;

  const end = Promise.withResolvers<never>();
  end.promise.catch(() => {});
  const ended = process.status.then(async ({ code, signal }) =>
    end.reject(new Error(`The kernel ended with ${signal ?? `code ${code}`}. ${(await log).trim().slice(-2000)}`))
  );
  /** A connection that breaks is often the first sign that the kernel ends: then that is what is told. */
  const broken = async (error: unknown): Promise<never> => {
    await within(END, ended);
    end.reject(error);
    return await end.promise;
  };
  /** What comes of a promise, unless the kernel ends before. */
  const orEnded = <T>(promise: Promise<T>): Promise<T> => Promise.race([promise, end.promise]);

  async function open(channel: typeof CHANNELS[number], deadline: number): Promise<Socket> {
    for (const port = ports[CHANNELS.indexOf(channel)];;) {
      try {
        const socket = await connect(port, channel === "iopub" ? "SUB" : "DEALER");
        sockets.push(socket);
        return socket;
      } catch (cause) {
        if (performance.now() > deadline) throw new Error("Cannot start a kernel: expected it to listen, found no answer", { cause });
        await new Promise((resolve) => setTimeout(resolve, AGAIN));
      }
    }
  }

  async function receive(socket: Socket, use: (message: Message) => void): Promise<void> {
    try {
      for await (const frames of socket.messages()) use(decodeMessage(key, frames));
    } catch (error) {
      await broken(error).catch(() => {});
    }
  }

  async function request(socket: Socket, type: string, content: unknown): Promise<Message> {
    const header = newHeader(type, session), { promise, resolve } = Promise.withResolvers<Message>();
    answers.set(header.msg_id, resolve);
    await socket.send(encodeMessage(key, { header, parent: {}, content })).catch(broken);
    return await orEnded(promise).finally(() => answers.delete(header.msg_id));
  }

  const answer = (message: Message) => answers.get(message.parent.msg_id!)?.(message);
  const close = async (control?: Socket) => {
    if (control) {
      await within(END, request(control, "shutdown_request", { restart: false }).then(() => ended)).catch(() => {});
    }
    try {
      process.kill("SIGKILL");
    } catch { /* it has ended */ }
    await ended;
    for (const socket of sockets) socket[Symbol.dispose]();
    await Deno.remove(file);
  };

  try {
    const deadline = performance.now() + START;
    const [shell, iopub, control] = await orEnded(
      Promise.all([open("shell", deadline), open("iopub", deadline), open("control", deadline)]),
    );
    receive(shell, answer);
    receive(control, answer);
    receive(iopub, (message) => listener?.(message));
    const { content: { language_info: language } } = await request(shell, "kernel_info_request", {});

    const evaluate = async (code: string, silent: boolean): Promise<Reply> =>
      (await request(shell, "execute_request", {
        ...{ code, silent, store_history: !silent, user_expressions: {}, allow_stdin: false, stop_on_error: true },
      })).content;
    const publish = (id: string) => `await Deno.jupyter.broadcast("${DRAINED}", { id: "${id}" });`;
    /** What was printed before this is published before the line, what was shown before the message: they take two ways. */
    const drain = (id: string) => evaluate(`console.log("${DRAINED} ${id}"); ${publish(id)}`, true);

    const execute = async (code: string, onOutput: (message: Message) => void = () => {}): Promise<Reply> => {
      const id = crypto.randomUUID(),
        line = `${DRAINED} ${id}\n`,
        printed = Promise.withResolvers<void>(),
        shown = Promise.withResolvers<void>();
      listener = (message) => {
        const { header: { msg_type: type }, content } = message;
        if (type === DRAINED) return content.id === id && shown.resolve();
        if (type !== "stream" || !content.text.includes(line)) return onOutput(message);
        const text = content.text.replace(line, "");
        if (text !== "") onOutput({ ...message, content: { ...content, text } });
        printed.resolve();
      };
      const reply = await evaluate(code, false);
      await drain(id);
      const drained = await within(START, orEnded(Promise.all([printed.promise, shown.promise])));
      if (!drained) throw new Error("Cannot tell what a cell has put out: expected a line on its console, found none");
      listener = undefined;
      return reply;
    };

    // The subscription is told to the kernel later than it answers: it holds once something published has come.
    const heard = Promise.withResolvers<void>();
    listener = () => heard.resolve();
    for (let done = false; !done;) {
      await evaluate(publish(""), true);
      done = await Promise.race([
        heard.promise.then(() => true),
        new Promise<boolean>((resolve) => setTimeout(() => resolve(false), AGAIN)),
      ]);
    }
    listener = undefined;
    return { language, execute, interrupt: () => process.kill("SIGINT"), [Symbol.asyncDispose]: () => close(control) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What comes of a promise, or undefined after so many milliseconds. */
async function within<T>(milliseconds: number, promise: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>(), timer = setTimeout(() => resolve(undefined), milliseconds);
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  for (const listener of listeners) listener.close();
  return listeners.map(({ addr }) => (addr as Deno.NetAddr).port);
}
