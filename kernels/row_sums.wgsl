// y[t, i] = Σ_r weights[t, r] · table[rows[t, r], i], over those rows that lie in the part of the table at hand; added to the sum of the parts before it
//
// One invocation an element of y, neighbours along a row; memory-bound, tokens · ranks · width · 4 bytes from all over the table, each row in one piece.

struct Shape {
  tokens: u32,
  ranks: u32,
  width: u32,
  first: u32, // row of the table that the part begins with
  count: u32, // rows in the part
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weights: array<f32>;  // [tokens, ranks]
@group(0) @binding(2) var<storage, read> table: array<f32>;    // [count, width]
@group(0) @binding(3) var<storage, read> rows: array<u32>;     // [tokens, ranks]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [tokens, width]

@compute @workgroup_size(256)
fn row_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.x + group.y * groups.x) * 256 + lane;
  if (at >= shape.tokens * shape.width) { return; }
  let begin = at / shape.width * shape.ranks;
  var sum = 0.0;
  if (shape.first > 0) { sum = y[at]; }
  for (var slot = begin; slot < begin + shape.ranks; slot++) {
    let row = rows[slot] - shape.first; // wraps round to a large number before the part
    if (row < shape.count) { sum += weights[slot] * table[row * shape.width + at % shape.width]; }
  }
  y[at] = sum;
}
