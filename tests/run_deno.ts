import { assert } from "@std/assert";

export interface RunOptions {
  cwd?: string;
  /** What is other in its environment than in ours; undefined where it shall not have a variable. */
  env?: Record<string, string | undefined>;
}

/** Runs Deno in a process of its own, which has to end well. @returns What it printed. */
export async function runDeno(args: string[], { cwd, env }: RunOptions = {}): Promise<string> {
  const variables = Object.entries({ ...Deno.env.toObject(), NO_COLOR: "1", ...env }).filter((variable): variable is [string, string] =>
    variable[1] !== undefined
  );
  const command = new Deno.Command(Deno.execPath(), { args, cwd, clearEnv: true, env: Object.fromEntries(variables) });
  const { code, stdout, stderr } = await command.output();
  assert(code === 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
