import { fileURLToPath } from "node:url";
import { benchCheckpoint } from "./checkpoint.ts";
import { calibrateScale } from "./calibrate_scale.ts";
import { forward, PREFILL } from "./forward.ts";
import { importance, SCORINGS } from "./importance.ts";
import { type LayerName, LAYERS } from "./layer.ts";
import { loraStep } from "./lora_step.ts";
import type { Peer, Row, Scale } from "./row.ts";
import { PRICINGS, search } from "./search.ts";
import { type MatricesName, type Spectrum, svd } from "./svd.ts";

const LAYER_NAMES: readonly LayerName[] = ["qwen", "deepseek", "mixtral"];
const DEPTHS = [2, 4, 8];
/** Embedded models that LoRA steps are taken on, unless a folder is given. */
const FIXTURES = ["tiny-qwen2-moe", "tiny-mixtral", "tiny-deepseek-v2"];

/**
 * Everything that is measured, at a scale.
 *
 * @param model Checkpoint folder for `lora_step`. @default the embedded models, and at small scale a random one
 */
export function benchRows(scale: Scale, model?: string): Row[] {
  const small = scale === "small";
  /** Once at full scale. At small scale that would measure the start of the process, which ours has behind it. */
  const slow = (name: string): Peer => ({ name, repeat: small ? 3 : 1 }), once = (name: string): Peer => ({ name, repeat: 1 });
  const matrices: MatricesName[] = small ? ["expert-small"] : ["expert", "mixtral"];
  const fixture = (name: string) => fileURLToPath(new URL(`../../notebooks/checkpoints/${name}`, import.meta.url));
  const models = model ? [["given", model]] : FIXTURES.map((name) => [name, fixture(name)]);
  const lora = { name: "lora_step", program: "lora_step", peers: [once("loop"), once("grouped")] };
  return [
    ...LAYER_NAMES.map((shape): Row => ({
      ...{ name: "search", program: "search", shape, flags: ["--shape", shape] },
      peers: [{ ...slow("literal"), unprepared: true }, { name: "gram", repeat: PRICINGS }],
      prepare: (device) => search(device, shape, scale),
    })),
    ...LAYER_NAMES.map((shape): Row => ({
      ...{ name: "importance", program: "importance", shape, flags: ["--shape", shape] },
      peers: [{ ...slow("literal"), ...fewExperts(shape) }, { name: "gram", repeat: SCORINGS }],
      prepare: (device) => importance(device, shape, scale),
    })),
    ...matrices.flatMap((name) =>
      (["decaying", "flat"] as Spectrum[]).map((spectrum): Row => ({
        ...{ name: "svd", program: "svd", shape: `${name}, ${spectrum}`, flags: ["--shape", name, "--spectrum", spectrum] },
        peers: [slow("full"), ...["lowrank-4", "gram"].map((peer) => ({ name: peer, repeat: name === "mixtral" ? 1 : 3 }))],
        prepare: (device) => svd(device, name, spectrum),
      }))
    ),
    {
      ...{ name: "forward", program: "forward", shape: small ? "2 layers" : "4 layers", flags: [] },
      peers: ["eager", "grouped"].map((name) => ({ name, repeat: PREFILL[scale].runs })),
      prepare: (device, folder) => forward(device, `${folder}/model`, scale),
    },
    ...DEPTHS.map((layers): Row => ({
      ...{ name: "calibrate_scale", program: "calibrate_scale", shape: `${layers} layers`, flags: ["--layers", String(layers)] },
      peers: [once("whole"), once("walk")],
      prepare: (device, folder) => calibrateScale(device, `${folder}/model`, scale, layers),
    })),
    ...(small && !model
      ? [
        {
          ...{ ...lora, shape: "random", flags: [] },
          prepare: (device, folder) => loraStep(device, `${folder}/model`, () => benchCheckpoint(`${folder}/model`, scale, 4)),
        } satisfies Row,
      ]
      : []),
    ...models.map(([shape, path]): Row => ({
      ...{ ...lora, shape, flags: ["--model", path] },
      prepare: (device) => loraStep(device, path),
    })),
  ];
}

/** One run of the layer, and one more for each expert: the time of a few tells that of all. */
function fewExperts(shape: LayerName): Pick<Peer, "flags" | "sample"> {
  const { experts } = LAYERS[shape], few = 3;
  return { flags: ["--experts", String(few)], sample: { of: `${few} of ${experts}`, factor: (experts + 1) / (few + 1) } };
}
