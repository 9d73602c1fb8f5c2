/** The notebooks of NAEE and of what followed run. */

import { testRuns } from "./test_runs.ts";
import { isOfMoeI2, notebookNames } from "./working_copy.ts";

testRuns(notebookNames().filter((name) => !isOfMoeI2(name)));
