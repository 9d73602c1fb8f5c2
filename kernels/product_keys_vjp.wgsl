// The slope of each key's score is the sum of those of the pairs that it is part of:
//
//   dkeys[t, i] = Σ_r dscores[t, r] where experts[t, r] is a pair with key i, its first (pair / m) or its second (pair % m)
//
// One invocation a key, which looks through all ranks: they are few, and in cache. Memory-bound, rows · keys · 4 bytes.

struct Shape {
  rows: u32,
  keys: u32,   // of this half
  m: u32,      // second keys
  ranks: u32,
}

override second: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dscores: array<f32>;      // [rows, ranks]
@group(0) @binding(2) var<storage, read> experts: array<u32>;      // [rows, ranks]
@group(0) @binding(3) var<storage, read_write> dkeys: array<f32>;  // [rows, keys]

@compute @workgroup_size(256)
fn product_keys_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.x + group.y * groups.x) * 256 + lane;
  if (at >= shape.rows * shape.keys) { return; }
  let begin = at / shape.keys * shape.ranks;
  let key = at % shape.keys;
  var sum = 0.0;
  for (var r = begin; r < begin + shape.ranks; r++) {
    var part = experts[r] / shape.m;
    if (second) { part = experts[r] % shape.m; }
    if (part == key) { sum += dscores[r]; }
  }
  dkeys[at] = sum;
}
