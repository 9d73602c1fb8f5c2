// dx[t, i] = r · (dy[t, i] · gain[i] - x[t, i] · r² · mean_j(dy[t, j] · gain[j] · x[t, j])), r = 1 / sqrt(mean_j x[t, j]² + epsilon)
//
// One workgroup a token: each invocation sums strided parts of both means in f32, a tree in workgroup memory adds them. Reads x, dy and the gain twice
// (the second time from cache): memory-bound, 3 · tokens · hidden · 4 bytes.

struct Shape {
  tokens: u32,
  hidden: u32,
  epsilon: f32,
}

override lanes: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;        // [tokens, hidden]
@group(0) @binding(2) var<storage, read> x: array<f32>;         // [tokens, hidden]
@group(0) @binding(3) var<storage, read> gain: array<f32>;      // [hidden]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;  // [tokens, hidden]

var<workgroup> partial: array<vec2f, lanes>;

@compute @workgroup_size(lanes)
fn rms_norm_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = group.x + group.y * groups.x;
  if (token >= shape.tokens) { return; }
  let row = token * shape.hidden;

  var sums = vec2f(); // of x² and of dy · gain · x
  for (var i = lane; i < shape.hidden; i += lanes) {
    sums += vec2f(x[row + i], dy[row + i] * gain[i]) * x[row + i];
  }
  partial[lane] = sums;
  for (var step = lanes / 2; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();

  let means = partial[0] / f32(shape.hidden);
  let factor = inverseSqrt(means.x + shape.epsilon);
  let back = factor * factor * means.y;
  for (var i = lane; i < shape.hidden; i += lanes) {
    dx[row + i] = factor * (dy[row + i] * gain[i] - x[row + i] * back);
  }
}
