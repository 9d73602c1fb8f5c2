// Back through y[t] = Σ_r f(gate[t, r]) · x[t, r] with f(g) = g, or f(g) = sigmoid(g) where gated:
//
//   dx[t, r, i] = f(gate[t, r]) · dy[t, i]      dgate[t, r] = f'(gate[t, r]) · Σ_i dy[t, i] · x[t, r, i]
//
// One workgroup a slot (t, r): its invocations are strided along the row, the sum is a tree in workgroup memory. Memory-bound, tokens · ranks · hidden ·
// 12 bytes at most. Beyond 87 exp leaves the range of f32, and the sigmoid is 0 or 1 to all digits.

struct Shape {
  slots: u32,
  ranks: u32,
  width: u32,
}

override lanes: u32 = 256; // a power of two
override gated: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;           // [tokens, width]
@group(0) @binding(2) var<storage, read> x: array<f32>;            // [tokens, ranks, width]
@group(0) @binding(3) var<storage, read> gate: array<f32>;         // [tokens, ranks]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;     // [tokens, ranks, width]
@group(0) @binding(5) var<storage, read_write> dgate: array<f32>;  // [tokens, ranks]

var<workgroup> partial: array<f32, lanes>;

@compute @workgroup_size(lanes)
fn weighted_rows_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slot = group.x + group.y * groups.x;
  if (slot >= shape.slots) { return; }
  let begin = slot / shape.ranks * shape.width;
  let start = slot * shape.width;
  var factor = gate[slot];
  var slope = 1.0;
  if (gated) {
    factor = 1 / (1 + exp(-clamp(factor, -87.0, 87.0)));
    slope = factor * (1 - factor);
  }
  var sum = 0.0;
  for (var i = lane; i < shape.width; i += lanes) {
    sum += dy[begin + i] * x[start + i];
    dx[start + i] = factor * dy[begin + i];
  }
  partial[lane] = sum;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  if (lane == 0) { dgate[slot] = slope * partial[0]; }
}
