// dp[t, e] = scale · dw[t, r] for the expert e of rank r, or scale · (dw[t, r] - Σ_s dw[t, s] · p[t, s] / Σ p) / Σ p where renormalised; 0 for all others
//
// One invocation a token writes its row of all experts: a row has a handful of ranks, and some tens of experts. Where Σ p is 0 so are the gates, whatever
// p. Memory-bound, tokens · (experts + 3 · ranks) · 4 bytes.

struct Shape {
  tokens: u32,
  ranks: u32,
  count: u32, // experts
  renormalise: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dw: array<f32>;        // [tokens, ranks]
@group(0) @binding(2) var<storage, read> experts: array<u32>;   // [tokens, ranks]
@group(0) @binding(3) var<storage, read> p: array<f32>;         // [tokens, ranks]
@group(0) @binding(4) var<storage, read_write> dp: array<f32>;  // [tokens, count]

@compute @workgroup_size(64)
fn gates_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = (group.x + group.y * groups.x) * 64 + lane;
  if (token >= shape.tokens) { return; }
  let row = token * shape.ranks;
  let to = token * shape.count;
  for (var e = 0u; e < shape.count; e++) { dp[to + e] = 0; }
  var factor = shape.scale;
  var mean = 0.0;
  if (shape.renormalise == 1) {
    var sum = 0.0;
    var along = 0.0;
    for (var r = row; r < row + shape.ranks; r++) {
      sum += p[r];
      along += dw[r] * p[r];
    }
    if (sum == 0) { return; }
    factor /= sum;
    mean = along / sum;
  }
  for (var r = row; r < row + shape.ranks; r++) {
    if (experts[r] < shape.count) { dp[to + experts[r]] = factor * (dw[r] - mean); }
  }
}
