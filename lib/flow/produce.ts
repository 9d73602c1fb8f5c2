/**
 * Gives results: from the store, or by computing them.
 *
 * @module
 */

import { compute } from "./compute.ts";
import type { Manifest } from "./manifest.ts";
import { type Resolved, resolveStages } from "./resolve.ts";
import { isDisposable, type Run, runOfInputs } from "./run.ts";
import type { InputOf } from "./stage.ts";

/** The result of a stage. @throws {Error} If an input is not fresh and may not be run, or the stage fails. */
export async function produce(run: Run, name: string): Promise<unknown> {
  return await valueOf(run, await settled(run, name, name));
}

/** A stage whose inputs are fresh, and all that it takes is run before, if that is allowed. */
async function settled(run: Run, name: string, asked: string): Promise<Resolved> {
  const [found] = await resolveStages(run, [name]), waiting = Object.values(found.inputs).filter(({ state }) => state !== "fresh");
  if (waiting.length === 0) return found;
  for (const { definition, state, reason } of new Set(waiting)) {
    if (definition.stored && !run.options.upstream) {
      const why = reason ? ` (${reason})` : "", input = `its input "${definition.name}" is ${state}${why}`;
      throw new Error(`Cannot run "${asked}": ${input}; run that first, or all that it needs with { upstream: true }`);
    }
    const input = await settled(run, definition.name, definition.stored ? definition.name : asked);
    if (definition.stored) await storedResult(runOfInputs(run), input);
  }
  return (await resolveStages(run, [name]))[0];
}

/** The value of a stage whose inputs are fresh. As an input it has to be the one that the key of what follows from it names. */
async function valueOf(run: Run, found: Resolved, isInput = false): Promise<unknown> {
  const { name, stored, codec } = found.definition;
  const manifest = stored ? await storedResult(run, found) : undefined, key = manifest ? `${found.key} ${manifest.created}` : found.key!;
  if (isInput && manifest && manifest.hash !== found.hash) {
    const why = "it was damaged, and came out differently when it was computed again";
    throw new Error(`Cannot use the result of "${name}": ${why}; run again what follows from it`);
  }
  const known = run.recall(name, key);
  if (known) return known.value;
  const input = inputsOf(run, found),
    value = manifest ? await codec.decode(await run.store.open(manifest), input) : (await compute(run, found, input)).value;
  if (manifest ? codec.shared : isDisposable(value)) run.remember(name, key, value);
  return value;
}

/** Gives the results of a stage's inputs by their names, each of them once. */
function inputsOf(run: Run, { definition, inputs }: Resolved): InputOf {
  const given = new Map<string, Promise<unknown>>();
  return async (name) => {
    if (!Object.hasOwn(inputs, name)) {
      throw new Error(`Cannot keep the result of "${definition.name}": it has no input "${name}", which its codec takes`);
    }
    const value = given.get(name) ?? valueOf(runOfInputs(run), inputs[name], true);
    given.set(name, value);
    return await value;
  };
}

/** The manifest of a result that is in the store, to the byte: computed if it was not. */
async function storedResult(run: Run, found: Resolved): Promise<Manifest> {
  const { store, options, onWarning } = run, { name } = found.definition, key = found.key!, at = store.path(name, key);
  const ready = await store.inspect(at);
  if (ready?.manifest) return ready.manifest;
  if (options.compute === false) {
    const { state, reason } = found, why = ready ? `damaged: ${ready.damage}` : `${state}${reason ? ` (${reason})` : ""}`;
    throw new Error(`Cannot show "${name}": it is ${why}; run it first`);
  }
  if (ready) onWarning(`The stored result of "${name}" is damaged (${ready.damage}): it is computed again`);
  const waiting = { stage: `${name}: waiting for another process that computes it`, total: 1, unit: "results" };
  let waited = false;
  await using _lock = await store.lock(name, key, {
    signal: options.signal,
    onWait: () => {
      if (!waited) options.onProgress?.({ ...waiting, done: 0 });
      waited = true;
    },
  });
  if (waited) options.onProgress?.({ ...waiting, done: 1 });
  const meanwhile = await store.inspect(at); // another process may have been quicker
  try {
    return meanwhile?.manifest ?? (await compute(run, found, inputsOf(run, found))).manifest!;
  } finally {
    run.changed();
  }
}
