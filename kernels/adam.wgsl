// One step of AdamW, with d = scale · gradient:
//
//   first ← β₁ · first + (1 - β₁) · d      second ← β₂ · second + (1 - β₂) · d²
//   value ← keep · value - rate · first · mean / (sqrt(second · spread) + epsilon)
//
// keep = 1 - rate · weight decay; mean = 1 / (1 - β₁^step) and spread = 1 / (1 - β₂^step) take the bias of the first steps away. They come from the host,
// where numbers have more digits. One invocation an element; memory-bound, 7 · size · 4 bytes.

struct Shape {
  size: u32,
  beta1: f32,
  beta2: f32,
  rest1: f32,   // 1 - β₁
  rest2: f32,
  mean: f32,
  spread: f32,
  keep: f32,
  rate: f32,
  epsilon: f32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;      // [size]
@group(0) @binding(2) var<storage, read_write> value: array<f32>;   // [size]
@group(0) @binding(3) var<storage, read_write> first: array<f32>;   // [size]
@group(0) @binding(4) var<storage, read_write> second: array<f32>;  // [size]

@compute @workgroup_size(256)
fn adam(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  let d = shape.scale * gradient[i];
  let m = shape.beta1 * first[i] + shape.rest1 * d;
  let s = shape.beta2 * second[i] + shape.rest2 * d * d;
  first[i] = m;
  second[i] = s;
  value[i] = value[i] * shape.keep - shape.rate * (m * shape.mean) / (sqrt(s * shape.spread) + shape.epsilon);
}
