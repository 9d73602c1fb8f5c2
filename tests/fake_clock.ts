/** Time that passes when a test says so. */

// @ts-types="npm:@types/sinonjs__fake-timers@15.0.1"
import { withGlobal } from "npm:@sinonjs/fake-timers@15.5.0";

export interface FakeClock extends Disposable {
  /** Lets so many milliseconds pass, with all that is due in them and what follows from it; and waits for what has begun, which should be over then. */
  pass(milliseconds: number, begun?: Promise<unknown>): Promise<void>;
}

/** Stands still from now on, at 0; disposing it brings the real time back. */
export function fakeClock(): FakeClock {
  const clock = withGlobal(globalThis).install({ now: 0, toFake: ["setTimeout", "clearTimeout", "performance"] });
  return {
    pass: async (milliseconds, begun) => {
      await clock.tickAsync(milliseconds);
      await begun;
    },
    [Symbol.dispose]: () => clock.uninstall(),
  };
}
