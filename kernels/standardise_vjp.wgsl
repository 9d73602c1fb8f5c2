// Back through y[t, i] = (x[t, i] - mean[i]) · r[i], r = 1 / sqrt(variance + epsilon), where mean and variance are those of the columns of x:
//
//   dx[t, i] = r[i] · (dy[t, i] - mean over t of dy[t, i] - y[t, i] · mean over t of dy[t, i] · y[t, i])
//
// A workgroup of 256 takes 64 columns, each of four groups every fourth row. Memory-bound, 5 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read> x: array<f32>;         // [rows, width]
@group(0) @binding(3) var<storage, read> moments: array<f32>;   // [2, width]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;  // [rows, width]

var<workgroup> partial: array<vec2f, 256>;

@compute @workgroup_size(256)
fn standardise_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * groups.x) * 64 + lane % 64;
  let inside = column < shape.width;
  var mean = 0.0;
  var factor = 0.0;
  var sums = vec2f();
  if (inside) {
    mean = moments[column];
    factor = inverseSqrt(moments[shape.width + column] + shape.epsilon);
    for (var t = lane / 64; t < shape.rows; t += 4) {
      let at = t * shape.width + column;
      sums += dy[at] * vec2f(1, (x[at] - mean) * factor);
    }
  }
  partial[lane] = sums;
  workgroupBarrier();
  let first = lane % 64;
  sums = ((partial[first] + partial[first + 64]) + (partial[first + 128] + partial[first + 192])) / f32(shape.rows);
  if (!inside) { return; }
  for (var t = lane / 64; t < shape.rows; t += 4) {
    let at = t * shape.width + column;
    dx[at] = factor * (dy[at] - sums.x - (x[at] - mean) * factor * sums.y);
  }
}
