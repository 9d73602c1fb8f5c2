// x[i] *= factors[i % period]: element by element where there are as many factors, row by row where all rows share them
//
// One invocation an element; memory-bound, 3 · size · 4 bytes at most.

struct Shape {
  size: u32,
  period: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> factors: array<f32>;  // [period]
@group(0) @binding(2) var<storage, read_write> x: array<f32>;  // [size]

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i < shape.size) { x[i] *= factors[i % shape.period]; }
}
