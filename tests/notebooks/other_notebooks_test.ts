/** The notebooks of NAEE and of what followed run. */

import { testRuns } from "./test_runs.ts";
import { notebookNames } from "./working_copy.ts";

testRuns(notebookNames().filter((name) => name >= "11"));
