// y[t, r] = scale · p[t, r], or scale · p[t, r] / Σ_s p[t, s] where renormalised; 0 where that sum is 0, as for a token without experts
//
// One invocation a token; a row has a handful of ranks. Memory-bound, 2 · tokens · ranks · 4 bytes.

struct Shape {
  tokens: u32,
  ranks: u32,
  renormalise: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> p: array<f32>;        // [tokens, ranks]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [tokens, ranks]

@compute @workgroup_size(64)
fn gates(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = (group.x + group.y * groups.x) * 64 + lane;
  if (token >= shape.tokens) { return; }
  let row = token * shape.ranks;
  var factor = shape.scale;
  if (shape.renormalise == 1) {
    var sum = 0.0;
    for (var r = row; r < row + shape.ranks; r++) { sum += p[r]; }
    if (sum == 0) { factor = 0; } else { factor /= sum; }
  }
  for (var r = row; r < row + shape.ranks; r++) { y[r] = factor * p[r]; }
}
