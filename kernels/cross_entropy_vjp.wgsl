// z[t, v] ← weight[t] · (softmax(z[t])[v] - [v is target[t]]), in place, for a block of the vocabulary
//
// The row's largest logit and Σ exp come from cross_entropy.wgsl, which has seen all blocks. One invocation a logit; memory-bound, 2 · rows · width · 4
// bytes a block.

struct Shape {
  rows: u32,
  width: u32, // logits in the block
  start: u32, // vocabulary index of the block's first
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> targets: array<u32>;      // [rows]
@group(0) @binding(2) var<storage, read> weights: array<f32>;      // [rows]
@group(0) @binding(3) var<storage, read> state: array<vec4f>;      // [rows]: largest logit, Σ exp(z - it)
@group(0) @binding(4) var<storage, read_write> z: array<f32>;      // [rows, width]

@compute @workgroup_size(256)
fn cross_entropy_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.rows * shape.width) { return; }
  let row = i / shape.width;
  let chosen = select(0.0, 1.0, targets[row] == shape.start + i % shape.width);
  z[i] = weights[row] * (exp(z[i] - state[row].x) / state[row].y - chosen);
}
