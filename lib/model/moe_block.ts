/**
 * The experts of a layer, put together from named tensors.
 *
 * @module
 */

import type { MatrixSource } from "../device/device.ts";
import { moduleNames } from "./architectures.ts";
import { feedForward, type Find, type KeptLayer } from "./assemble_model.ts";
import { basedSource } from "./based_source.ts";
import type { Expert, MoeBlock } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

/**
 * Matrices that several experts share are there once: `experts.0`, `experts.1`, … are those that differ, in the order of the first expert that has them.
 *
 * @param path Of the layer.
 * @param kept What is left of it.
 */
export function moeBlock(config: ModelConfig, find: Find, path: string, kept: KeptLayer = whole(config)): MoeBlock {
  const { hidden, moe } = config, names = moduleNames(config.architecture, config.raw.model_type), at = `${path}.${names.moe}`;
  const { experts: ids, ranks, merged, constants, based, skip } = kept;
  const each = <T>(make: (name: string, outputs: number, inputs: number) => T) => ({
    gate: make(names.gate, moe.intermediate, hidden),
    up: make(names.up, moe.intermediate, hidden),
    down: make(names.down, hidden, moe.intermediate),
  });
  const bases = based && each((name, outputs, inputs) => find(`${at}.experts.base.${name}.weight`, [outputs, inputs]));
  const stored = (number: number, rank: number | null): Omit<Expert, "id"> => {
    const expert = `${at}.experts.${number}`;
    const matrices = each((name, outputs, inputs): MatrixSource =>
      rank === null ? find(`${expert}.${name}.weight`, [outputs, inputs]) : {
        left: find(`${expert}.${name}.left.weight`, [outputs, rank]),
        right: find(`${expert}.${name}.right.weight`, [rank, inputs]),
      }
    );
    if (!bases) return matrices;
    const sum = (kind: "gate" | "up" | "down") =>
      basedSource({ base: bases[kind], ...matrices[kind] as Extract<MatrixSource, { left: unknown }> });
    return { gate: sum("gate"), up: sum("up"), down: sum("down") };
  };
  const experts: Expert[] = [];
  let count = 0;
  ids.forEach((id, position) => {
    const owner = merged?.[position] ?? position;
    experts.push({ ...(owner < position ? experts[owner] : stored(count++, ranks?.[position] ?? null)), id });
  });
  return {
    kind: "moe",
    router: find(`${at}.gate.weight`, [ids.length + (constants?.length ?? 0), hidden]),
    experts,
    ...(constants ? { constants: { ids: constants, outputs: find(`${at}.experts.constants`, [constants.length, hidden]) } } : {}),
    ...(skip === undefined ? {} : { skip }),
    ...(names.shared && moe.shared > 0
      ? {
        shared: {
          ...feedForward(config, find, `${at}.${names.shared}`, moe.shared),
          ...(names.sharedGate ? { scale: find(`${at}.${names.sharedGate}.weight`, [1, hidden]) } : {}),
        },
      }
      : {}),
  };
}

function whole({ moe }: ModelConfig): KeptLayer {
  return { layer: 0, experts: Array.from({ length: moe.experts }, (_, id) => id) };
}
