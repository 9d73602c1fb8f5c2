/** One draw of calibration data, and what all methods take from it. */

import {
  calibrate,
  type Device,
  type ExpertScores,
  type ExpertSignatures,
  expertSignatures,
  type ExpertStatistics,
  expertStatistics,
  type LayerSimilarity,
  layerSimilarity,
  leaveOneOut,
  type Model,
  moeLayers,
  type OutlierDistribution,
  outlierDistribution,
  random,
  type RouterSimilarity,
  routerSimilarity,
  type Sequences,
  type Trace,
} from "../mod.ts";
import { SharedStages } from "../lib/evaluate/shared_stages.ts";

/** What several methods need is worked out once; `seconds` still knows what each would have cost alone. */
export class Draw {
  readonly stages = new SharedStages();
  readonly tokens: Sequences;

  /** @param sequences How many of the calibration sequences are drawn. */
  constructor(readonly device: Device, readonly model: Model, calibration: Sequences, sequences: number, readonly seed: number) {
    this.tokens = random(seed, "calibration").sample(calibration, sequences);
  }

  trace(): Promise<Trace> {
    return this.stages.run("trace", [], () => calibrate(this.device, this.model, this.tokens));
  }

  statistics(): Promise<ExpertStatistics> {
    return this.stages.run("statistics", [], () => expertStatistics(this.device, this.model, this.tokens));
  }

  signatures(): Promise<ExpertSignatures> {
    return this.stages.run("signatures", [], () => expertSignatures(this.device, this.model, this.tokens));
  }

  similarity(): Promise<RouterSimilarity> {
    return this.stages.run("similarity", [], () => routerSimilarity(this.device, this.model, this.tokens));
  }

  layers(): Promise<LayerSimilarity> {
    return this.stages.run("layers", [], () => layerSimilarity(this.device, this.model, this.tokens));
  }

  /** Of the layers that have experts. */
  outliers(): Promise<OutlierDistribution> {
    return this.stages.run("outliers", [], async () => {
      const distribution = await outlierDistribution(this.device, this.model, this.tokens), moe = moeLayers(this.model);
      return { ...distribution, layers: distribution.layers.filter(({ layer }) => moe.some(({ index }) => index === layer)) };
    });
  }

  importance(): Promise<ExpertScores> {
    return this.stages.run("importance", ["trace"], async () => leaveOneOut(this.device, this.model, await this.trace()));
  }
}

/** Draws by their seed: 0, 1, … */
export class Draws implements Disposable {
  readonly list: Draw[];

  constructor(device: Device, model: Model, calibration: Sequences, { count, sequences }: { count: number; sequences: number }) {
    this.list = Array.from({ length: count }, (_, seed) => new Draw(device, model, calibration, sequences, seed));
  }

  [Symbol.dispose](): void {
    for (const { stages } of this.list) stages[Symbol.dispose]();
  }
}
