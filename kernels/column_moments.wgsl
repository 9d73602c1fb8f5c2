// y[0, i] = mean over rows of x[t, i], y[1, i] = mean over rows of (x[t, i] - y[0, i])²
//
// A workgroup of 256 takes 64 columns: neighbours read along a row, each of four groups sums every fourth row. Two passes, the second from cache where
// it holds the columns: one that sums squares would lose the digits of small variances. Memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, width]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [2, width]

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn column_moments(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = (group.x + group.y * groups.x) * 64 + lane % 64;
  let inside = column < shape.width;
  var mean = 0.0;
  for (var moment = 0u; moment < 2; moment++) {
    var sum = 0.0;
    if (inside) {
      for (var t = lane / 64; t < shape.rows; t += 4) {
        let value = x[t * shape.width + column];
        if (moment == 0) { sum += value; } else { sum += (value - mean) * (value - mean); }
      }
    }
    partial[lane] = sum;
    workgroupBarrier();
    let first = lane % 64;
    sum = (partial[first] + partial[first + 64]) + (partial[first + 128] + partial[first + 192]);
    mean = sum / f32(shape.rows);
    if (inside && lane < 64) { y[moment * shape.width + column] = mean; }
    workgroupBarrier();
  }
}
