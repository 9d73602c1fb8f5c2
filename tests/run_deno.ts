import { assert } from "@std/assert";

/** Runs Deno in a process of its own, which has to end well. @returns What it printed. */
export async function runDeno(args: string[], { cwd, env }: { cwd?: string; env?: Record<string, string> } = {}): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd, env: { NO_COLOR: "1", ...env } }).output();
  assert(code === 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
