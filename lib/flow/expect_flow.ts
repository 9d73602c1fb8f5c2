/**
 * Is this a flow?
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { Flow } from "./flow.ts";

/** The argument that functions of flows begin with, and their options. @throws {TypeError} If it is none. */
export function expectFlow(flow: Flow, purpose: string, options: object = {}): void {
  expect(typeof flow?.resolve === "function" && flow.definitions instanceof Map, purpose, "a flow from openFlow()", flow);
  expectOptions(options, purpose);
}
