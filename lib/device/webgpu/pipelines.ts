/**
 * Kernels, compiled when they are first needed.
 *
 * @module
 */

import { type Faults, sentence } from "./faults.ts";

/** A WGSL file of `kernels/`; its entry point has the name of the file. */
export interface Kernel {
  readonly name: string;
  readonly source: string;
}

/** Values of a kernel's override constants. */
export type Constants = Readonly<Record<string, number>>;

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/**
 * Compiles kernels and keeps them: a pipeline for each set of constants.
 *
 * Within the call: Deno 2.9 compiles in `createComputePipelineAsync` too before it returns a promise, so nothing would run meanwhile.
 */
export class Pipelines {
  #device: GPUDevice;
  #faults: Faults;
  #modules = new Map<string, GPUShaderModule>();
  #pipelines = new Map<string, Pipeline>();

  constructor(device: GPUDevice, faults: Faults) {
    this.#device = device;
    this.#faults = faults;
  }

  get(kernel: Kernel, constants: Constants): Pipeline {
    const key = `${kernel.name} ${Object.values(constants)}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) this.#pipelines.set(key, pipeline = this.#compile(kernel, constants));
    return pipeline;
  }

  #compile({ name, source }: Kernel, constants: Constants): Pipeline {
    return this.#faults.watch(() => {
      let module = this.#modules.get(name);
      if (!module) this.#modules.set(name, module = this.#device.createShaderModule({ label: name, code: source }));
      const pipeline = this.#device.createComputePipeline({
        label: name,
        layout: "auto",
        compute: { module, entryPoint: name, constants },
      });
      return { pipeline, layout: pipeline.getBindGroupLayout(0) };
    }, (error) => explain(name, this.#modules.get(name), error));
  }
}

async function explain(name: string, module: GPUShaderModule | undefined, error: GPUError): Promise<Error> {
  const messages = (await module?.getCompilationInfo())?.messages ?? [];
  const wrong = messages.find(({ type }) => type === "error");
  const where = wrong ? `, line ${wrong.lineNum}` : "";
  const what = sentence(wrong ?? error).replace(/^Shader '[^']*' parsing error: /, "");
  return new Error(`Cannot compile kernel "${name}"${where}: ${what}`, { cause: error });
}
