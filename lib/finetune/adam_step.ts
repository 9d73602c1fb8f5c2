/**
 * The optimiser.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import type { AdamOptions } from "../device/vjp.ts";
import type { Parameter } from "./parameters.ts";

const BETAS = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/**
 * Clips the gradients, takes one step of AdamW with every parameter, and drops them.
 *
 * @param clip Longest norm of the gradient over all parameters.
 * @returns The norm before clipping. Where it is not finite no step is taken.
 */
export async function adamStep(
  device: Device,
  parameters: { readonly all: ReadonlyMap<string, Parameter>; dropGradients(): void },
  clip: number,
  { learningRate, weightDecay, step }: Pick<AdamOptions, "learningRate" | "weightDecay" | "step">,
): Promise<number> {
  const trained = [...parameters.all.values()].filter((p) => p.gradient);
  using sums = new DisposableStack();
  const squares = trained.map(({ gradient }) => sums.use(device.squares(gradient!)));
  const parts = await Promise.all(squares.map(async (rows) => (await device.read(rows)).reduce((a, b) => a + b, 0)));
  const gradientNorm = Math.sqrt(parts.reduce((a, b) => a + b, 0)), scale = Math.min(1, clip / gradientNorm);
  if (Number.isFinite(gradientNorm)) {
    for (const { value, gradient, first, second } of trained) {
      device.adam(value, gradient!, { first, second }, {
        ...{ ...BETAS, learningRate, weightDecay, step },
        scale: gradientNorm > 0 ? scale : 1,
      });
    }
  }
  parameters.dropGradients();
  return gradientNorm;
}
