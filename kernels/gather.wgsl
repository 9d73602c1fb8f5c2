// y[i] = x[rows[i]], row by row, for those rows that lie in the part of x at hand; zero for rows that x has not, written with the first part
//
// One invocation an element, neighbours along a row; memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,  // of y
  width: u32,
  first: u32, // row of x that the part begins with
  count: u32, // rows in the part
  height: u32, // rows of x
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [count, width]
@group(0) @binding(2) var<storage, read> rows: array<u32>;     // [rows]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows, width]

@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.rows * shape.width) { return; }
  let row = rows[i / shape.width] - shape.first; // wraps round to a large number before the part
  if (row < shape.count) { y[i] = x[row * shape.width + i % shape.width]; }
  if (shape.first == 0 && row >= shape.height) { y[i] = 0; }
}
