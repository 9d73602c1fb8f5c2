/**
 * What a notebook keeps of the messages of its kernel.
 *
 * @module
 */

import type { Message } from "./message.ts";

/** An output of a cell as it stands in a notebook, its text in one piece. */
export interface Output {
  output_type: "stream" | "display_data" | "execute_result" | "error";
  /** Of a stream. */
  name?: string;
  text?: string;
  /** Of a display or result, by MIME type. */
  data?: Record<string, unknown>;
  metadata?: Record<string, unknown>;
  execution_count?: number;
  /** Of an error. */
  ename?: string;
  evalue?: string;
  traceback?: string[];
}

/**
 * Keeps the outputs of a notebook as its clients do: a display that is updated changes where it stands, in earlier cells too, and goes
 * on the list of its cell once; text of one stream is joined; a line that is written over is left as it was last.
 *
 * @returns A function that begins a cell: it gives the list of its outputs, and a function that takes messages.
 */
export function collectOutputs(): () => { outputs: Output[]; take: (message: Message) => void } {
  const displays = new Map<string, Output[]>();
  return () => {
    const outputs: Output[] = [];
    let clear = false;
    const add = (output: Output) => {
      if (clear) outputs.length = 0;
      clear = false;
      outputs.push(output);
    };
    const update = (id: string, { data, metadata }: Message["content"]) => {
      for (const output of displays.get(id) ?? []) Object.assign(output, { data, metadata });
    };
    const take = ({ header, content }: Message) => {
      const id: string | undefined = content.transient?.display_id, type = header.msg_type;
      if (type === "stream") {
        const last = clear ? undefined : outputs.at(-1);
        if (last?.output_type === "stream" && last.name === content.name) last.text = writeOver(last.text + content.text);
        else add({ output_type: "stream", name: content.name, text: writeOver(content.text) });
      } else if (type === "execute_result" && Object.keys(content.data ?? {}).length === 0) {
        // A result that wants not to be shown: clients show nothing.
      } else if (type === "display_data" || type === "execute_result") {
        const output: Output = { output_type: type, data: content.data, metadata: content.metadata };
        if (type === "execute_result") output.execution_count = content.execution_count;
        if (id !== undefined) {
          update(id, content);
          displays.set(id, [...displays.get(id) ?? [], output]);
        }
        add(output);
      } else if (type === "update_display_data" && id !== undefined) update(id, content);
      else if (type === "error") {
        add({ output_type: "error", ename: content.ename, evalue: content.evalue, traceback: content.traceback });
      } else if (type === "clear_output") {
        if (content.wait) clear = true;
        else outputs.length = 0;
      }
    };
    return { outputs, take };
  };
}

/** Leaves out what a carriage return goes back over. */
function writeOver(text: string): string {
  return text.replace(/[^\n]*\r(?![\r\n]|$)/g, "");
}
