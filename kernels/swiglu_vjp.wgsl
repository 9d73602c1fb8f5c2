// Back through y = silu(gate) · up, with σ = 1 / (1 + exp(-gate)): dgate = dy · up · σ · (1 + gate · (1 - σ)), dup = dy · gate · σ
//
// One invocation an element; memory-bound, 5 · size · 4 bytes. Beyond 87 exp leaves the range of f32, and the sigmoid is 0 or 1 to all digits.

struct Shape {
  size: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;           // [size]
@group(0) @binding(2) var<storage, read> gate: array<f32>;         // [size]
@group(0) @binding(3) var<storage, read> up: array<f32>;           // [size]
@group(0) @binding(4) var<storage, read_write> dgate: array<f32>;  // [size]
@group(0) @binding(5) var<storage, read_write> dup: array<f32>;    // [size]

@compute @workgroup_size(256)
fn swiglu_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  let g = gate[i];
  let s = 1 / (1 + exp(-clamp(g, -87.0, 87.0)));
  dgate[i] = dy[i] * up[i] * s * (1 + g * (1 - s));
  dup[i] = dy[i] * g * s;
}
