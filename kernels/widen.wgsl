// y[i] = x[i], from 16 stored bits to 32
//
// One invocation a word, which is two elements; memory-bound, size · 6 bytes. A BF16 is the upper half of an F32.

struct Shape {
  size: u32,
}

override format: u32 = 1; // of x: 1 BF16, 2 F16

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // [size / 2], the lower half first
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [size]

@compute @workgroup_size(256)
fn widen(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = 2 * ((group.x + group.y * groups.x) * 256 + lane);
  if (i >= shape.size) { return; }
  let word = x[i / 2];
  var pair = bitcast<vec2f>(vec2u(word << 16, word & 0xffff0000));
  if (format == 2) { pair = unpack2x16float(word); }
  y[i] = pair.x;
  if (i + 1 < shape.size) { y[i + 1] = pair.y; }
}
