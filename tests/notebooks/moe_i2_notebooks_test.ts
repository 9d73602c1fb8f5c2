/** The notebooks of MoE-I² run; those of the other systems do so in a file of their own, at the same time. */

import { testRuns } from "./test_runs.ts";
import { isOfMoeI2, notebookNames } from "./working_copy.ts";

testRuns(notebookNames().filter(isOfMoeI2));
