// y[t, i] = exp(x[t, i] - max_j x[t, j]) / Σ_j exp(x[t, j] - max_j x[t, j])
//
// One workgroup a row, its invocations strided over it: the maximum and the sum of the powers are trees in workgroup memory. No power exceeds 1, so no
// row overflows. Reads x three times (twice from cache), writes y once: 2 · rows · width · 4 bytes from memory.

struct Shape {
  rows: u32,
  width: u32,
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [rows, width]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn softmax(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let start = row * shape.width;

  var peak = x[start];
  for (var i = lane; i < shape.width; i += lanes) { peak = max(peak, x[start + i]); }
  partial[lane] = peak;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] = max(partial[lane], partial[lane + step]); }
  }
  workgroupBarrier();
  peak = partial[0];
  workgroupBarrier();

  var sum = 0.0;
  for (var i = lane; i < shape.width; i += lanes) { sum += exp(x[start + i] - peak); }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();

  for (var i = lane; i < shape.width; i += lanes) { y[start + i] = exp(x[start + i] - peak) / partial[0]; }
}
