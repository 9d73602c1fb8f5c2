// y = f(x) · factor, with f(x) = max(0, x), or x · Φ(x) where gelu
//
// One invocation an element; memory-bound, 3 · size · 4 bytes.

struct Shape {
  size: u32,
}

override gelu: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [size]
@group(0) @binding(2) var<storage, read> factor: array<f32>;   // [size]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [size]

@compute @workgroup_size(256)
fn activate(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  if (gelu) { y[i] = x[i] * normal(x[i]) * factor[i]; } else { y[i] = max(0.0, x[i]) * factor[i]; }
}

// Φ(x) = (1 + erf(x / √2)) / 2, erf by Abramowitz and Stegun 7.1.26: within 1.5e-7, and a few roundings. Beyond 13 the tail is 0 to all digits of f32.
fn normal(x: f32) -> f32 {
  let z = min(abs(x), 13.0) * 0.70710678;
  let t = 1 / (1 + 0.3275911 * z);
  let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-z * z) / 2;
  return select(1 - tail, tail, x < 0);
}
