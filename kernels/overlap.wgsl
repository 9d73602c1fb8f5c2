// y[t] = Σ_i min(a[t, i], b[t, i]): what two distributions have in common, 1 less their total variation distance
//
// One workgroup a row: each invocation sums a strided part of it, a tree in workgroup memory adds the parts. Reads a and b once: memory-bound,
// 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> a: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read> b: array<f32>;        // [rows, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn overlap(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let start = row * shape.width;

  var sum = 0.0;
  for (var i = start + lane; i < start + shape.width; i += lanes) { sum += min(a[i], b[i]); }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();
  if (lane == 0) { y[row] = partial[0]; }
}
