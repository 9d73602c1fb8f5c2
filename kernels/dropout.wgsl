// y[i] = factor · x[i] where hash(seed, i) >= least, else 0
//
// The hash is two rounds of a mixing of 32 bits (Wellons' lowbias32), integer arithmetic that every device does alike. One invocation an element;
// memory-bound, 2 · size · 4 bytes.

struct Shape {
  size: u32,
  first: u32,  // position of the first element
  key: u32,    // the seed, mixed
  least: u32,  // rate · 2^32
  factor: f32, // 1 / (1 - rate)
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [size]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [size]

@compute @workgroup_size(256)
fn dropout(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  y[i] = select(0.0, shape.factor * x[i], mix_bits(mix_bits(shape.first + i) ^ shape.key) >= shape.least);
}

fn mix_bits(bits: u32) -> u32 {
  var x = (bits ^ (bits >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
