// Back through y = f(x) · factor: dx = dy · factor · f'(x), dfactor = dy · f(x), with f(x) = max(0, x), or x · Φ(x) where gelu, whose slope is Φ(x) + x · φ(x)
//
// One invocation an element; memory-bound, 5 · size · 4 bytes.

struct Shape {
  size: u32,
}

override gelu: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> dy: array<f32>;             // [size]
@group(0) @binding(2) var<storage, read> x: array<f32>;              // [size]
@group(0) @binding(3) var<storage, read> factor: array<f32>;         // [size]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;       // [size]
@group(0) @binding(5) var<storage, read_write> dfactor: array<f32>;  // [size]

@compute @workgroup_size(256)
fn activate_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  var share = select(0.0, 1.0, x[i] > 0);
  var slope = share;
  if (gelu) {
    let held = clamp(x[i], -13.0, 13.0);
    share = normal(x[i]);
    slope = share + held * exp(-held * held / 2) * 0.39894228;
  }
  dx[i] = dy[i] * factor[i] * slope;
  dfactor[i] = dy[i] * x[i] * share;
}

// Φ(x) = (1 + erf(x / √2)) / 2, erf by Abramowitz and Stegun 7.1.26: within 1.5e-7, and a few roundings. Beyond 13 the tail is 0 to all digits of f32.
fn normal(x: f32) -> f32 {
  let z = min(abs(x), 13.0) * 0.70710678;
  let t = 1 / (1 + 0.3275911 * z);
  let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-z * z) / 2;
  return select(1 - tail, tail, x < 0);
}
