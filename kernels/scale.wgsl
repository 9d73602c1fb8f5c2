// x[i] *= factor
//
// One invocation an element; memory-bound, 2 · size · 4 bytes.

struct Shape {
  size: u32,
  factor: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read_write> x: array<f32>; // [size]

@compute @workgroup_size(256)
fn scale(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i < shape.size) { x[i] *= shape.factor; }
}
