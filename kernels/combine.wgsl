// y[t, i] = Σ_r gates[t, r] · outputs[t, r, i]
//
// One invocation an element of y, neighbours along a row; memory-bound, tokens · (ranks + 1) · hidden · 4 bytes.

struct Shape {
  tokens: u32,
  ranks: u32,
  hidden: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> outputs: array<f32>;  // [tokens, ranks, hidden]
@group(0) @binding(2) var<storage, read> gates: array<f32>;    // [tokens, ranks]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [tokens, hidden]

@compute @workgroup_size(256)
fn combine(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.tokens * shape.hidden) { return; }
  let slot = i / shape.hidden * shape.ranks;
  var sum = 0.0;
  for (var r = 0u; r < shape.ranks; r++) {
    sum += gates[slot + r] * outputs[(slot + r) * shape.hidden + i % shape.hidden];
  }
  y[i] = sum;
}
