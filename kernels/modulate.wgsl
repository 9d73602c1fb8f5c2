// m[r, k] = w[r, k] · (one + scale · up[r] · down[block of r, k]) for some rows of a matrix, in F32
//
// One invocation an element; neighbours lie along a row. Memory-bound: the weight once, 4 bytes an element written, a row of `down` once for each row of
// its block, mostly from cache. Any sizes.

struct Shape {
  rows: u32,
  columns: u32,
  weight: u32, // first element of the rows in the weight's buffer, counted in elements of its format
  to: u32,     // and in m
  up: u32,     // and in up
  down: u32,   // element of `down` that block 0 begins at, modulo 2^32: what is bound may begin with a later block
  first: u32,  // row of the whole matrix that row 0 is
  height: u32, // rows of a block
  one: f32,
  scale: f32,
}

override format: u32 = 0; // of the weight: 0 F32, 1 BF16, 2 F16

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weight: array<u32>;    // as stored
@group(0) @binding(2) var<storage, read> up: array<f32>;
@group(0) @binding(3) var<storage, read> down: array<f32>;      // [blocks, columns]
@group(0) @binding(4) var<storage, read_write> m: array<f32>;   // [rows, columns]

@compute @workgroup_size(256)
fn modulate(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.rows * shape.columns) { return; }
  let row = i / shape.columns;
  let block = (shape.first + row) / shape.height;
  let factor = shape.scale * up[shape.up + row];
  m[shape.to + i] = w_at(shape.weight + i) * (shape.one + factor * down[shape.down + block * shape.columns + i % shape.columns]);
}

// Element e of the weight, widened.
fn w_at(e: u32) -> f32 {
  if (format == 0) { return bitcast<f32>(weight[e]); }
  let word = weight[e / 2];
  if (format == 1) { return bitcast<f32>(select(word << 16, word & 0xffff0000, e % 2 == 1)); }
  return unpack2x16float(word)[e % 2];
}
