// y[t, i] = (x[t, i] - mean[i]) / sqrt(variance[i] + epsilon)
//
// One invocation an element; memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read> moments: array<f32>;  // [2, width]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows, width]

@compute @workgroup_size(256)
fn standardise(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.x + group.y * groups.x) * 256 + lane;
  if (at >= shape.rows * shape.width) { return; }
  let column = at % shape.width;
  y[at] = (x[at] - moments[column]) * inverseSqrt(moments[shape.width + column] + shape.epsilon);
}
