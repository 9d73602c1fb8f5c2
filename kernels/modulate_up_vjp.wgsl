// dup[r] = scale · Σ_k down[block of r, k] · w[r, k] · dm[r, k]: back through modulate.wgsl
//
// A workgroup of 64 takes a row: its invocations are strided along it, the sum is a tree in workgroup memory. Memory-bound: the weight once, 4 bytes an
// element of dm, a row of `down` once for each row of its block. Any sizes.

struct Shape {
  rows: u32,
  columns: u32,
  weight: u32, // first element of the rows in the weight's buffer, counted in elements of its format
  at: u32,     // and in dm
  up: u32,     // and in dup
  down: u32,   // element of `down` that block 0 begins at, modulo 2^32: what is bound may begin with a later block
  first: u32,  // row of the whole matrix that row 0 is
  height: u32, // rows of a block
  scale: f32,
}

override format: u32 = 0; // of the weight: 0 F32, 1 BF16, 2 F16

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weight: array<u32>;      // as stored
@group(0) @binding(2) var<storage, read> down: array<f32>;        // [blocks, columns]
@group(0) @binding(3) var<storage, read> dm: array<f32>;          // [rows, columns]
@group(0) @binding(4) var<storage, read_write> dup: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn modulate_up_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let start = shape.down + (shape.first + row) / shape.height * shape.columns;
  var sum = 0.0;
  for (var k = lane; k < shape.columns; k += 64) {
    let e = row * shape.columns + k;
    sum += down[start + k] * w_at(shape.weight + e) * dm[shape.at + e];
  }
  partial[lane] = sum;
  for (var step = 32u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  if (lane == 0) { dup[shape.up + row] = shape.scale * partial[0]; }
}

// Element e of the weight, widened.
fn w_at(e: u32) -> f32 {
  if (format == 0) { return bitcast<f32>(weight[e]); }
  let word = weight[e / 2];
  if (format == 1) { return bitcast<f32>(select(word << 16, word & 0xffff0000, e % 2 == 1)); }
  return unpack2x16float(word)[e % 2];
}
