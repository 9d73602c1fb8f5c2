// y[t, r] = Σ_i x[t, i] · table[rows[t, r], i], for those rows that lie in the part of the table at hand; zero for rows that it has not, written with the
// first part
//
// One workgroup a slot (t, r): its invocations are strided along the row, the sum is a tree in workgroup memory. Memory-bound, slots · width · 4 bytes
// from all over the table, each row in one piece.

struct Shape {
  slots: u32,
  ranks: u32,
  width: u32,
  first: u32,  // row of the table that the part begins with
  count: u32,  // rows in the part
  height: u32, // rows of the table
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [tokens, width]
@group(0) @binding(2) var<storage, read> table: array<f32>;    // [count, width]
@group(0) @binding(3) var<storage, read> rows: array<u32>;     // [slots]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [slots]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn row_dots(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slot = group.x + group.y * groups.x;
  if (slot >= shape.slots) { return; }
  let row = rows[slot] - shape.first; // wraps round to a large number before the part
  let here = row < shape.count;
  let begin = slot / shape.ranks * shape.width;
  var sum = 0.0;
  if (here) {
    for (var i = lane; i < shape.width; i += lanes) { sum += x[begin + i] * table[row * shape.width + i]; }
  }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  if (lane == 0 && (here || (shape.first == 0 && rows[slot] >= shape.height))) { y[slot] = partial[0]; }
}
