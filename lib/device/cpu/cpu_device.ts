/**
 * The CPU device.
 *
 * @module
 */

import { checked } from "../checked.ts";
import type { Device, DType, RouterGroups, Tensor, TensorSource } from "../device.ts";
import { attention, rotary } from "./attention.ts";
import { type Blas, BLAS_HINT } from "./blas.ts";
import { Crew } from "./crew.ts";
import { hostEigen } from "./eigen.ts";
import { type CpuExperts, loadExperts, runExperts } from "./experts.ts";
import { fitness } from "./fitness.ts";
import { cpuOf, crossEntropy, linear } from "./linear.ts";
import { Memory } from "./memory.ts";
import { neurons } from "./neurons.ts";
import { gates, rank, skip } from "./router.ts";
import * as rows from "./rows.ts";
import { CpuTensor, onCpu } from "./tensor.ts";
import { training } from "./training.ts";
import { widen } from "./widen.ts";

/** In the type in which a checkpoint stores them, or widened once when they are loaded. */
export type HeldWeights = "stored" | "float32";

/**
 * A device on this computer's processor: matrix products by the system's BLAS if there is one, else in TypeScript. The oracle that the kernels of
 * the `webgpu` device are tested against.
 */
export function cpuDevice(reason: string, blas: Blas | undefined, weights: HeldWeights = "stored"): Device {
  const memory = new Memory(),
    alone = cpuOf(memory, blas),
    crew = blas && new Crew(alone, blas),
    cpu = crew?.cpu ?? alone,
    eigen = hostEigen(blas);
  const maybe = (tensor: Tensor | undefined) => tensor && onCpu(tensor);
  const wide = (stored: CpuTensor) => {
    const result = new CpuTensor(memory, "F32", stored.shape);
    widen(stored.raw, stored.dtype as DType, 0, result.f32);
    return result;
  };
  const load = async (source: TensorSource) => {
    const tensor = new CpuTensor(memory, source.dtype, source.shape);
    try {
      await source.read(tensor.raw);
      if (weights === "stored" || source.dtype === "F32") return tensor;
      using stored = tensor;
      return wide(stored);
    } catch (error) {
      tensor[Symbol.dispose]();
      throw error;
    }
  };
  const device: Device = {
    kind: "cpu",
    name: (blas?.name ?? `TypeScript; for about 50 times the speed ${BLAS_HINT}`) + (weights === "float32" ? ", weights in float32" : ""),
    reason,
    live: memory.live,
    tensor: (values, shape) => {
      const tensor = new CpuTensor(memory, values instanceof Uint32Array ? "U32" : "F32", shape);
      tensor.raw.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return tensor;
    },
    load,
    loadExperts: (experts) => loadExperts(memory, load, experts),
    read: (tensor) => Promise.resolve(onCpu(tensor).f32.slice()),
    readIndices: (tensor) => Promise.resolve(onCpu(tensor).u32.slice()),
    sync: () => Promise.resolve(),
    linear: (x, weight, bias) => linear(cpu, onCpu(x), onCpu(weight), maybe(bias)),
    rmsNorm: (x, gain, epsilon) => rows.rmsNorm(cpu, onCpu(x), onCpu(gain), epsilon),
    rotary: (x, options) => rotary(cpu, onCpu(x), options),
    attention: (query, key, value, options) => attention(cpu, query, key, value, options),
    swiglu: (gate, up) => rows.swiglu(cpu, onCpu(gate), onCpu(up)),
    add: (into, x, gate) => rows.add(cpu, onCpu(into), onCpu(x), maybe(gate)),
    multiply: (x, factors) => rows.multiply(onCpu(x), onCpu(factors)),
    softmax: (x) => rows.softmax(cpu, onCpu(x)),
    rank: (probabilities, ranks, groups?: RouterGroups) => ranking(rank(cpu, onCpu(probabilities), ranks, groups)),
    gates: (ranking, rule) => gates(cpu, onCpu(ranking.probabilities), rule),
    skip: ({ experts, probabilities }, share) => ranking(skip(cpu, onCpu(experts), onCpu(probabilities), share)),
    experts: (x, experts, weights) => runExperts(cpu, onCpu(x), onCpu(experts), weights as CpuExperts),
    combine: (outputs, weights) => rows.combine(cpu, onCpu(outputs), onCpu(weights)),
    gather: (x, indices) => rows.gather(cpu, onCpu(x), onCpu(indices)),
    gram: (x) => rows.gram(cpu, onCpu(x)),
    widen: (x) => wide(onCpu(x)),
    transpose: (x) => rows.transpose(cpu, onCpu(x)),
    squares: (a, b) => rows.squares(cpu, onCpu(a), maybe(b)),
    overlap: (a, b) => rows.overlap(cpu, onCpu(a), onCpu(b)),
    crossEntropy: (x, head, targets) => crossEntropy(cpu, onCpu(x), onCpu(head), onCpu(targets)),
    fitness: (inputs, sets) => Promise.resolve(fitness(cpu, inputs, sets)),
    eigen: (matrix, count, options) => {
      const n = matrix.shape[0], { values, vectors } = eigen(onCpu(matrix).f32, n, count, options);
      const result = new CpuTensor(memory, "F32", [count, n]);
      result.f32.set(vectors);
      return Promise.resolve({ values, vectors: result });
    },
    ...training(cpu),
    ...neurons(cpu),
    [Symbol.dispose]: () => {
      crew?.[Symbol.dispose]();
      memory.clear();
    },
  };
  return checked(device, memory);
}

function ranking(parts: { experts: CpuTensor; probabilities: CpuTensor }) {
  return {
    ...parts,
    [Symbol.dispose]: () => {
      parts.experts[Symbol.dispose]();
      parts.probabilities[Symbol.dispose]();
    },
  };
}
