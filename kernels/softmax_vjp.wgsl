// dz[t, i] = p[t, i] · (dp[t, i] - Σ_j p[t, j] · dp[t, j])
//
// One workgroup a row, its invocations strided over it, the sum a tree in workgroup memory. Reads p and dp twice, the second time from cache:
// memory-bound, 3 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dp: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read> p: array<f32>;         // [rows, width]
@group(0) @binding(3) var<storage, read_write> dz: array<f32>;  // [rows, width]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn softmax_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let start = row * shape.width;
  var sum = 0.0;
  for (var i = lane; i < shape.width; i += lanes) { sum += p[start + i] * dp[start + i]; }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();
  for (var i = lane; i < shape.width; i += lanes) { dz[start + i] = p[start + i] * (dp[start + i] - partial[0]); }
}
