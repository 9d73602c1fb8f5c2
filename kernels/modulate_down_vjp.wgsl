// ddown[i, k] += scale · Σ_r up[r] · w[r, k] · dm[r, k] over the given rows r of block i: back through modulate.wgsl
//
// One invocation an element of `down`, of which neighbours lie along a row; it walks down its block. Rows come in parts, which may end within a block: sums
// are added to what is there. Memory-bound: the weight once, 4 bytes an element of dm. Any sizes.

struct Shape {
  rows: u32,
  columns: u32,
  weight: u32, // first element of the rows in the weight's buffer, counted in elements of its format
  at: u32,     // and in dm
  up: u32,     // and in up
  down: u32,   // element of `ddown` that block 0 begins at, modulo 2^32: what is bound may begin with a later block
  first: u32,  // row of the whole matrix that row 0 is
  height: u32, // rows of a block
  scale: f32,
}

override format: u32 = 0; // of the weight: 0 F32, 1 BF16, 2 F16

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weight: array<u32>;        // as stored
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read> dm: array<f32>;            // [rows, columns]
@group(0) @binding(4) var<storage, read_write> ddown: array<f32>;   // [blocks, columns]

@compute @workgroup_size(64)
fn modulate_down_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64 + lane;
  let block = shape.first / shape.height + i / shape.columns;
  let k = i % shape.columns;
  let begin = max(block * shape.height, shape.first) - shape.first;
  let end = min((block + 1) * shape.height - shape.first, shape.rows);
  if (begin >= end) { return; }
  var sum = 0.0;
  for (var r = begin; r < end; r++) {
    let e = r * shape.columns + k;
    sum += up[shape.up + r] * w_at(shape.weight + e) * dm[shape.at + e];
  }
  ddown[shape.down + block * shape.columns + k] += shape.scale * sum;
}

// Element e of the weight, widened.
fn w_at(e: u32) -> f32 {
  if (format == 0) { return bitcast<f32>(weight[e]); }
  let word = weight[e / 2];
  if (format == 1) { return bitcast<f32>(select(word << 16, word & 0xffff0000, e % 2 == 1)); }
  return unpack2x16float(word)[e % 2];
}
