// Leaves out what a token's experts hold least: the smallest i >= 1 with Σ_{m >= i} p[t, m] <= share · Σ_m p[t, m] (m from 0)
//
//   kept[t, r]  = experts[t, r] for r < i, else NO_EXPERT
//   y[t, r]     = p[t, r] · Σ_m p[t, m] / Σ_{m < i} p[t, m] for r < i, else 0
//
// One invocation a token; a row has a handful of ranks. Where nothing is left out, numbers stay as they are, to the bit. Memory-bound,
// 4 · tokens · ranks · 4 bytes.

struct Shape {
  tokens: u32,
  ranks: u32,
  share: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> experts: array<u32>;      // [tokens, ranks], by falling probability
@group(0) @binding(2) var<storage, read> p: array<f32>;            // [tokens, ranks]
@group(0) @binding(3) var<storage, read_write> kept: array<u32>;   // [tokens, ranks]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;      // [tokens, ranks]

@compute @workgroup_size(64)
fn skip(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = (group.x + group.y * groups.x) * 64 + lane;
  if (token >= shape.tokens) { return; }
  let row = token * shape.ranks;
  var sum = 0.0;
  for (var r = shape.ranks; r > 0; r--) { sum += p[row + r - 1]; } // from the smallest on
  // What is not a number compares with nothing. By its bits, because WGSL lets compilers assume that there is none.
  let whole = (bitcast<u32>(sum) & 0x7fffffff) > 0x7f800000;
  var left = shape.ranks;
  var tail = 0.0;
  for (; left > 1 && !whole; left--) {
    let next = tail + p[row + left - 1];
    if (next > shape.share * sum) { break; }
    tail = next;
  }
  var factor = 1.0;
  if (tail > 0) {
    var head = 0.0;
    for (var r = 0u; r < left; r++) { head += p[row + r]; }
    factor = sum / head;
  }
  for (var r = 0u; r < shape.ranks; r++) {
    kept[row + r] = select(0xffffffff, experts[row + r], r < left);
    y[row + r] = select(0.0, factor * p[row + r], r < left);
  }
}
