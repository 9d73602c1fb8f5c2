// y[n, i] = Σ weights[slot] · x[slot / ranks, i] over the slots of row n, in their order
//
// One workgroup a row of y: it finds the run of its slots among the sorted ones by halving, then its invocations are strided along the row. Every row is
// written, those without slots with zeros: memory-bound, height · width · 4 bytes and slots · width · 4.

struct Shape {
  slots: u32,
  ranks: u32,
  width: u32,
  first: u32, // row that the part of y at hand begins with
  count: u32, // rows in the part
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weights: array<f32>;  // [slots]
@group(0) @binding(2) var<storage, read> x: array<f32>;        // [tokens, width]
@group(0) @binding(3) var<storage, read> pairs: array<vec2u>;  // [slots], (row, slot), sorted
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [count, width]

@compute @workgroup_size(64)
fn scatter_rows(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.count) { return; }
  let wanted = row + shape.first;
  var begin = 0u;
  var end = shape.slots;
  while (begin < end) {
    let middle = (begin + end) / 2;
    if (pairs[middle].x < wanted) { begin = middle + 1; } else { end = middle; }
  }
  for (var i = lane; i < shape.width; i += 64) {
    var sum = 0.0;
    for (var p = begin; p < shape.slots && pairs[p].x == wanted; p++) {
      let slot = pairs[p].y;
      sum += weights[slot] * x[slot / shape.ranks * shape.width + i];
    }
    y[row * shape.width + i] = sum;
  }
}
