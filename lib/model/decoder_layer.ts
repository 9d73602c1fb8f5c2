/**
 * The forward pass of one decoder layer.
 *
 * @module
 */

import type { Device, Ranking, RouterRule, Segment, Tensor } from "../device/device.ts";
import type { LoadedAttention, LoadedFeedForward, LoadedLayer, LoadedMoe } from "./load_layer.ts";
import type { GroupedAttention, LatentAttention, ModelConfig } from "./parse_config.ts";

/** The operations of a layer's forward pass. */
export type LayerDevice = Pick<
  Device,
  | "tensor"
  | "linear"
  | "rmsNorm"
  | "rotary"
  | "attention"
  | "swiglu"
  | "add"
  | "softmax"
  | "rank"
  | "skip"
  | "gates"
  | "experts"
  | "gather"
  | "combine"
>;

/** hidden += attention(norm(hidden)), in place. */
export function attend(
  device: LayerDevice,
  config: ModelConfig,
  weights: LoadedAttention,
  hidden: Tensor,
  segments: readonly Segment[],
): void {
  using x = device.rmsNorm(hidden, weights.norm, config.normEpsilon);
  using mixed = config.attention.kind === "latent"
    ? latentAttention(device, config, config.attention, weights, x, segments)
    : groupedAttention(device, config, config.attention, weights, x, segments);
  using output = project(device, weights, "o_proj", mixed);
  device.add(hidden, output);
}

/** A product with an attention projection, or with its two factors one after the other, plus its bias if it has one. */
function project(device: LayerDevice, { tensors }: LoadedAttention, name: string, x: Tensor): Tensor {
  const right = tensors[`${name}.right.weight`], bias = tensors[`${name}.bias`];
  if (!right) return device.linear(x, tensors[`${name}.weight`], bias);
  using low = device.linear(x, right);
  return device.linear(low, tensors[`${name}.left.weight`], bias);
}

/** Heads of this layer: as many as its projection gives vectors of this width. */
function headsOf({ shape }: Tensor, width: number): number {
  return shape.at(-1)! / width;
}

function groupedAttention(
  device: LayerDevice,
  config: ModelConfig,
  shape: GroupedAttention,
  weights: LoadedAttention,
  x: Tensor,
  segments: readonly Segment[],
) {
  const { width, scale } = shape, { frequencies, factor } = config.rotary;
  /** A projection with its norm and position. */
  const placed = (name: "q" | "k") => {
    const gain = weights.tensors[`${name}_norm.weight`];
    let y = project(device, weights, `${name}_proj`, x);
    if (gain) {
      using plain = y;
      y = device.rmsNorm(plain, gain, config.normEpsilon); // a gain as wide as a head works head by head
    }
    const turn = { segments, heads: headsOf(y, width), stride: width, offset: 0, frequencies, factor, interleaved: false };
    return changed(y, () => device.rotary(y, turn));
  };
  using query = placed("q");
  using key = placed("k");
  using value = project(device, weights, "v_proj", x);
  const heads = headsOf(query, width), keyHeads = headsOf(key, width);
  const part = (tensor: Tensor, count: number) => ({ tensor, row: count * width, stride: width, offset: 0, width });
  return device.attention([part(query, heads)], [part(key, keyHeads)], part(value, keyHeads), { segments, heads, keyHeads, scale });
}

/** Multi-head latent attention: a head's key is its own part of the widened latent vector beside a rotated part that all heads share. */
function latentAttention(
  device: LayerDevice,
  config: ModelConfig,
  shape: LatentAttention,
  weights: LoadedAttention,
  x: Tensor,
  segments: readonly Segment[],
) {
  const { plain, rotated, value, scale, queryRank } = shape, { tensors } = weights, { frequencies, factor } = config.rotary;
  const normed = (plain: Tensor, gain: string) => {
    using low = plain;
    return device.rmsNorm(low, tensors[gain], LATENT_EPSILON);
  };
  const projectQuery = () => {
    if (queryRank === null) return project(device, weights, "q_proj", x);
    using low = normed(project(device, weights, "q_a_proj", x), "q_a_layernorm.weight");
    return project(device, weights, "q_b_proj", low);
  };
  // Both parts of the joint projection have one right factor, if it has factors.
  const right = tensors["kv_a_proj_with_mqa.right.weight"];
  using joint = right && device.linear(x, right);
  const part = (name: "latent" | "rotated") =>
    device.linear(joint ?? x, tensors[joint ? `${name}.left.weight` : `${name}.weight`], tensors[`${name}.bias`]);
  using query = projectQuery();
  using latent = normed(part("latent"), "kv_a_layernorm.weight");
  using pair = project(device, weights, "kv_b_proj", latent);
  using shared = part("rotated");
  const head = plain + rotated, heads = headsOf(query, head), turn = { segments, frequencies, factor, interleaved: true };
  device.rotary(query, { ...turn, heads, stride: head, offset: plain });
  device.rotary(shared, { ...turn, heads: 1, stride: rotated, offset: 0 });

  const queries = { tensor: query, row: heads * head, stride: head },
    pairs = { tensor: pair, row: heads * (plain + value), stride: plain + value };
  return device.attention(
    [{ ...queries, offset: 0, width: plain }, { ...queries, offset: plain, width: rotated }],
    [{ ...pairs, offset: 0, width: plain }, { tensor: shared, row: rotated, stride: 0, offset: 0, width: rotated }],
    { ...pairs, offset: plain, width: value },
    { segments, heads, keyHeads: heads, scale },
  );
}

/** The norms inside latent attention keep the default of their class, whatever the config says. */
const LATENT_EPSILON = 1e-6;

/** The input of a layer's experts or dense network: norm(hidden). */
export function blockInput(device: LayerDevice, config: ModelConfig, weights: LoadedLayer, hidden: Tensor): Tensor {
  return device.rmsNorm(hidden, weights.outputNorm, config.normEpsilon);
}

/** Output of a layer's experts or dense network for its input `[tokens, hidden]`. */
export function blockOutput(
  device: LayerDevice,
  config: ModelConfig,
  block: LoadedLayer["block"],
  x: Tensor,
  masked?: readonly number[],
): Tensor {
  if (block.kind === "dense") return feedForward(device, block, x);
  using probabilities = routerProbabilities(device, block, x, masked);
  const rule = routerRule(config, block.ids);
  using ranking = usedExperts(device, probabilities, rule, block.skip);
  using gates = device.gates(ranking, rule);
  using outputs = device.experts(x, ranking.experts, block.experts);
  if (block.constants) {
    using constants = device.gather(block.constants, ranking.experts);
    device.add(outputs, constants);
  }
  const mixed = device.combine(outputs, gates);
  return changed(mixed, () => addShared(device, block, x, mixed));
}

/** The tensor, changed in place; given back if that fails. */
export function changed(tensor: Tensor, change: () => void): Tensor {
  try {
    change();
    return tensor;
  } catch (error) {
    tensor[Symbol.dispose]();
    throw error;
  }
}

/** Takes a residual stream through a layer, in place. */
export function forwardLayer(
  device: LayerDevice,
  config: ModelConfig,
  weights: LoadedLayer,
  hidden: Tensor,
  segments: readonly Segment[],
): void {
  attend(device, config, weights.attention, hidden, segments);
  using input = blockInput(device, config, weights, hidden);
  using output = blockOutput(device, config, weights.block, input);
  device.add(hidden, output);
}

/** into += the shared expert's output, if the layer has one. */
export function addShared(device: LayerDevice, { shared }: LoadedMoe, x: Tensor, into: Tensor): void {
  if (!shared) return;
  using output = feedForward(device, shared, x);
  using gate = shared.scale && device.linear(x, shared.scale);
  device.add(into, output, gate);
}

function feedForward(device: LayerDevice, { gate, up, down }: LoadedFeedForward, x: Tensor): Tensor {
  using opened = device.linear(x, gate);
  using raised = device.linear(x, up);
  using inner = device.swiglu(opened, raised);
  return device.linear(inner, down);
}

/** Softmax over the router's logits `[tokens, experts]`; `masked` experts (ids of the original model) get none of it. */
export function routerProbabilities(
  device: LayerDevice,
  { router, ids }: Pick<LoadedMoe, "router" | "ids">,
  x: Tensor,
  masked: readonly number[] = [],
): Tensor {
  // -1e30, not -∞: an exponential of it is 0 on every device, infinities need not be respected by shaders.
  using bias = masked.length > 0 ? device.tensor(Float32Array.from(ids, (id) => masked.includes(id) ? -1e30 : 0), [ids.length]) : undefined;
  using logits = device.linear(x, router, bias);
  return device.softmax(logits);
}

/** The experts that a layer runs for each token: its top-k, less what the layer skips. */
export function usedExperts(device: LayerDevice, probabilities: Tensor, { topK, groups }: RouterRule, skip?: number): Ranking {
  const ranking = device.rank(probabilities, topK, groups);
  if (skip === undefined) return ranking;
  using all = ranking;
  return device.skip(all, skip);
}

/** How this layer turns probabilities into weights. A layer with fewer experts than top-k uses all it has. */
export function routerRule({ moe }: ModelConfig, ids: readonly number[]): RouterRule {
  const { topK, renormalise, scale, groups } = moe, size = groups && moe.experts / groups.count;
  return {
    topK: Math.min(topK, ids.length),
    renormalise,
    scale,
    groups: groups && { of: ids.map((id) => Math.floor(id / size!)), keep: groups.keep },
  };
}
