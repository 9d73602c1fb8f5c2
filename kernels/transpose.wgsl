// y[j, i] = x[i, j]
//
// A workgroup turns a tile of 32 x 32 in workgroup memory, so that both its reads and its writes run along rows; rows of 33 keep the turn free of bank
// conflicts. Memory-bound, 2 · rows · columns · 4 bytes. The part of y at hand may begin at any column of x.

struct Shape {
  rows: u32,    // of the part of x
  columns: u32, // of the part of x, rows of the part of y
  stride: u32,  // elements from one row of x to the next
  left: u32,    // column of x that row 0 of y is
  height: u32,  // elements from one row of y to the next
  top: u32,     // column of y that row 0 of x is
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, stride]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [columns, height]

var<workgroup> tile: array<f32, 1056>;

@compute @workgroup_size(256)
fn transpose(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (shape.columns + 31) / 32;
  let index = group.x + group.y * groups.x;
  if (index >= across * ((shape.rows + 31) / 32)) { return; }
  let row = index / across * 32;
  let column = index % across * 32;
  for (var i = lane / 32; i < 32; i += 8) {
    if (row + i < shape.rows && column + lane % 32 < shape.columns) {
      tile[i * 33 + lane % 32] = x[(row + i) * shape.stride + shape.left + column + lane % 32];
    }
  }
  workgroupBarrier();
  for (var j = lane / 32; j < 32; j += 8) {
    if (column + j < shape.columns && row + lane % 32 < shape.rows) {
      y[(column + j) * shape.height + shape.top + row + lane % 32] = tile[lane % 32 * 33 + j];
    }
  }
}
