// y[t, i] += x[t, i], or y[t, i] += sigmoid(gate[t]) · x[t, i]
//
// One invocation an element; memory-bound, 3 · size · 4 bytes. Beyond 87 exp leaves the range of f32, and the sigmoid is 0 or 1 to all digits.

struct Shape {
  size: u32,
  width: u32, // elements that share a gate
}

override gated: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [size]
@group(0) @binding(2) var<storage, read> gate: array<f32>;     // [size / width] where gated
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [size]

@compute @workgroup_size(256)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  var factor = 1.0;
  if (gated) { factor = 1 / (1 + exp(-clamp(gate[i / shape.width], -87.0, 87.0))); }
  y[i] += factor * x[i];
}
