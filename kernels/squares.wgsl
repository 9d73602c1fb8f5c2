// y[s, t] = Σ_i (a[t, i] - b[t, i])², or Σ_i a[t, i]² without b, over the elements i of stretch s of row t
//
// One workgroup a stretch, which is a whole row unless rows are few and long: each invocation sums a strided part of it, a tree in workgroup memory adds the
// parts, so that errors grow with the logarithm of the width. Reads a and b once: memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
  apart: u32,     // 1 to subtract b
  stretches: u32, // of a row
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> a: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read> b: array<f32>;        // [rows, width] where apart
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [stretches, rows]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn squares(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.rows * shape.stretches) { return; }
  let length = (shape.width + shape.stretches - 1) / shape.stretches;
  let first = index / shape.rows * length; // of the row
  let start = index % shape.rows * shape.width + first;
  let end = start + min(length, shape.width - first);

  var sum = 0.0;
  for (var i = start + lane; i < end; i += lanes) {
    var value = a[i];
    if (shape.apart == 1) { value -= b[i]; }
    sum += value * value;
  }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();
  if (lane == 0) { y[index] = partial[0]; }
}
