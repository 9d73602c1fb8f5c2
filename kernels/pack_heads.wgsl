// packed[t, h, first + c] = x[t · row + h · stride + offset + c] for c below width, 0 from there to first + cover; or back, added:
//
//   x[t · row + h · stride + offset + c] += packed[t, h, first + c], summed over h where heads share their vector (stride 0)
//
// Parts of heads that lie in several tensors come together in rows of whole vectors, which is how attention's gradients read them. One invocation an
// element, neighbours along a row; memory-bound, 2 · tokens · heads · width · 4 bytes.

struct Shape {
  tokens: u32,
  heads: u32,
  row: u32,    // of x: elements from one token to the next, from one head to the next, to the first
  stride: u32,
  offset: u32,
  width: u32,
  full: u32,   // elements of a head, packed
  first: u32,
  cover: u32,  // elements of each head that are written
}

override back: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<f32>;      // x, or packed where back
@group(0) @binding(2) var<storage, read_write> goal: array<f32>;  // packed, or x where back

@compute @workgroup_size(256)
fn pack_heads(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  let c = i % shape.cover;
  if (!back) {
    if (i >= shape.tokens * shape.heads * shape.cover) { return; }
    let t = i / shape.cover / shape.heads;
    let h = i / shape.cover % shape.heads;
    var value = 0.0;
    if (c < shape.width) { value = source[t * shape.row + h * shape.stride + shape.offset + c]; }
    goal[(t * shape.heads + h) * shape.full + shape.first + c] = value;
  } else {
    let vectors = select(shape.heads, 1u, shape.stride == 0);
    if (i >= shape.tokens * vectors * shape.cover) { return; }
    let t = i / shape.cover / vectors;
    let h = i / shape.cover % vectors;
    var sum = 0.0;
    for (var head = h; head < shape.heads; head += vectors) { sum += source[(t * shape.heads + head) * shape.full + shape.first + c]; }
    goal[t * shape.row + h * shape.stride + shape.offset + c] += sum;
  }
}
