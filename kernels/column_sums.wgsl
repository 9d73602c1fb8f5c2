// y[s, i] = Σ_t dy[t, i], or Σ_t dy[t, i] · x[t, i] / sqrt(squares[t] / width + epsilon) where normed, over the rows t of strip s
//
// A workgroup of 256 takes 64 columns of a strip of rows: neighbours read along a row, each of four groups sums every fourth row, and the four sums are
// added at the end. Strips of at most 256 rows give many workgroups, and sums that keep their digits; summing the strips again gives the whole.
// Memory-bound, 2 · rows · width · 4 bytes.

struct Shape {
  rows: u32,
  width: u32,
  strip: u32,   // rows in a strip
  first: u32,   // strip of y that the first one goes to
  epsilon: f32,
}

override normed: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;       // [rows, width]
@group(0) @binding(2) var<storage, read> x: array<f32>;        // [rows, width] where normed
@group(0) @binding(3) var<storage, read> squares: array<f32>;  // [rows] where normed: Σ x²
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [strips, width]

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn column_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (shape.width + 63) / 64;
  let index = group.x + group.y * groups.x;
  let start = index / across * shape.strip;
  if (start >= shape.rows) { return; }
  let column = index % across * 64 + lane % 64;
  let inside = column < shape.width;
  var sum = 0.0;
  if (inside) {
    for (var t = start + lane / 64; t < min(start + shape.strip, shape.rows); t += 4) {
      let at = t * shape.width + column;
      if (normed) {
        sum += dy[at] * x[at] * inverseSqrt(squares[t] / f32(shape.width) + shape.epsilon);
      } else {
        sum += dy[at];
      }
    }
  }
  partial[lane] = sum;
  workgroupBarrier();
  if (lane < 64 && inside) {
    y[(shape.first + index / across) * shape.width + column] = (sum + partial[lane + 64]) + (partial[lane + 128] + partial[lane + 192]);
  }
}
