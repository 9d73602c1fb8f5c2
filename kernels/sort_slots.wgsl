// Sorts pairs (row, slot) by row, then slot: one step of a bitonic sorting network (Batcher, 1968), or the pairs to begin with
//
// One invocation a pair; that with the lower place of two compares them and swaps. log²(size) / 2 steps, each memory-bound, 2 · size · 8 bytes. No two
// pairs are equal: the order is the same at every run, which atomics would not give.

struct Shape {
  slots: u32,
  size: u32,   // the next power of two; pairs beyond the slots come last
  block: u32,  // length of the runs that are sorted by this step and those before it, up and down in turn; 0 to begin
  stride: u32, // between the two that are compared
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> rows: array<u32>;           // [slots]
@group(0) @binding(2) var<storage, read_write> pairs: array<vec2u>;  // [size]

@compute @workgroup_size(256)
fn sort_slots(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 256 + lane;
  if (i >= shape.size) { return; }
  if (shape.block == 0) {
    var row = 0xffffffffu;
    if (i < shape.slots) { row = rows[i]; }
    pairs[i] = vec2u(row, i);
    return;
  }
  let other = i ^ shape.stride;
  if (other < i) { return; }
  let a = pairs[i];
  let b = pairs[other];
  let falls = a.x > b.x || (a.x == b.x && a.y > b.y);
  if (falls == ((i & shape.block) == 0)) {
    pairs[i] = b;
    pairs[other] = a;
  }
}
