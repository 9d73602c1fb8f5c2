/**
 * Memory and time of calibrating and scoring a checkpoint in a folder, by the number of its layers, and how much of the time that the disk takes is hidden
 * behind that of the processor:
 *
 *     deno run -A tests/bench/memory.ts FOLDER [--depths 2,4,8] [--sequences 16] [--length 256] [--repeat 3] [--device cpu|webgpu]
 *
 * Each figure is of a process of its own (Linux, for the peak of resident memory, and coreutils, to have the system forget the file). One that is `cold`
 * finds nothing of the checkpoint in the page cache. Where times are taken, modes take turns; shown are the least and the median.
 */

import { fromFileUrl } from "node:url";
import { parseArgs } from "node:util";
import { markdownTable } from "npm:markdown-table@3.0.4";
import { calibrate, leaveOneOut, openDevice, openModel } from "../../mod.ts";
import { tokenIds } from "../numbers.ts";
