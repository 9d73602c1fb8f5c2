/**
 * The experts of a layer, put together from named tensors.
 *
 * @module
 */

import type { MatrixSource } from "../device/device.ts";
import { moduleNames } from "./architectures.ts";
import { factors, feedForward, type Find, type KeptLayer, type Rank } from "./assemble_model.ts";
import { basedSource } from "./based_source.ts";
import type { Expert, MoeBlock } from "./model.ts";
import type { ModelConfig } from "./parse_config.ts";

/**
 * Matrices that several experts share are there once: `experts.0`, `experts.1`, … are those that differ, in the order of the first expert that has them.
 *
 * @param path Of the layer.
 * @param kept What is left of it.
 * @param shared Intermediate size of the shared expert. @default that of the config
 */
export function moeBlock(
  config: ModelConfig,
  find: Find,
  path: string,
  kept: KeptLayer = whole(config),
  shared: number = config.moe.shared,
): MoeBlock {
  const { hidden, moe } = config, names = moduleNames(config.architecture, config.raw.model_type), at = `${path}.${names.moe}`;
  const { experts: ids, ranks, merged, constants, based, skip, channels, biases } = kept;
  const each = <T>(position: number, make: (kind: Kind, path: string, shape: [outputs: number, inputs: number]) => T) => {
    const width = channels?.[position] ?? moe.intermediate;
    return {
      gate: make("gate", names.gate, [width, hidden]),
      up: make("up", names.up, [width, hidden]),
      down: make("down", names.down, [hidden, width]),
    };
  };
  const bases = based && each(0, (_, name, shape) => find(`${at}.experts.base.${name}.weight`, shape));
  /** What stands at a position of the router. @param number Of its matrices among those that are stored. */
  const stored = (position: number, number: number): Omit<Expert, "id"> => {
    const expert = `${at}.experts.${number}`, own = ranksOf(ranks?.[position] ?? null);
    const matrices = each(position, (kind, name, shape): MatrixSource => {
      const rank = own[kind];
      return rank === null ? find(`${expert}.${name}.weight`, shape) : factors(find, `${expert}.${name}`, shape, rank);
    });
    const vectors = each(
      position,
      (kind, name, [outputs]) => biases?.[position].includes(kind) ? [[kind, find(`${expert}.${name}.bias`, [outputs])] as const] : [],
    );
    const biased = [...vectors.gate, ...vectors.up, ...vectors.down];
    const added = biased.length > 0 ? { biases: Object.fromEntries(biased) } : {};
    if (!bases) return { ...matrices, ...added };
    const sum = (kind: "gate" | "up" | "down") =>
      basedSource({ base: bases[kind], ...matrices[kind] as Extract<MatrixSource, { left: unknown }> });
    return { gate: sum("gate"), up: sum("up"), down: sum("down"), ...added };
  };
  const experts: Expert[] = [];
  let count = 0;
  ids.forEach((id, position) => {
    const owner = merged?.[position] ?? position;
    experts.push({ ...(owner < position ? experts[owner] : stored(position, count++)), id });
  });
  return {
    kind: "moe",
    router: find(`${at}.gate.weight`, [ids.length + (constants?.length ?? 0), hidden]),
    experts,
    ...(constants ? { constants: { ids: constants, outputs: find(`${at}.experts.constants`, [constants.length, hidden]) } } : {}),
    ...(skip === undefined ? {} : { skip }),
    ...(names.shared && shared > 0
      ? {
        shared: {
          ...feedForward(config, find, `${at}.${names.shared}`, shared),
          ...(names.sharedGate ? { scale: find(`${at}.${names.sharedGate}.weight`, [1, hidden]) } : {}),
        },
      }
      : {}),
  };
}

type Kind = "gate" | "up" | "down";

function ranksOf(rank: NonNullable<KeptLayer["ranks"]>[number]): Record<Kind, Rank> {
  const [gate, up, down] = typeof rank === "object" && rank !== null ? rank : [rank, rank, rank];
  return { gate, up, down };
}

function whole({ moe }: ModelConfig): KeptLayer {
  return { layer: 0, experts: Array.from({ length: moe.experts }, (_, id) => id) };
}
