// dz[t, i] = -weight · p[t, i] · (ln p[t, i] + H[t]), H[t] = -Σ_j p[t, j] · ln p[t, j]
//
// The slope of weight · Σ_t H[t] at the logits that p is the softmax of. One workgroup a row, its invocations strided over it, the sum a tree in workgroup
// memory. Logarithms are taken of at least 1e-37: below that p · ln p is nothing, and a device may take the number for zero. Reads p twice, the second
// time from cache: memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
  weight: f32,
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> p: array<f32>;         // [rows, width]
@group(0) @binding(2) var<storage, read_write> dz: array<f32>;  // [rows, width]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn entropy_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let start = row * shape.width;
  var sum = 0.0;
  for (var i = start + lane; i < start + shape.width; i += lanes) { sum += p[i] * log(max(p[i], 1e-37)); }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();
  for (var i = start + lane; i < start + shape.width; i += lanes) {
    dz[i] = -shape.weight * p[i] * (log(max(p[i], 1e-37)) - partial[0]);
  }
}
