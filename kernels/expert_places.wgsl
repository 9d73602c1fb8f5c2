// Where sorted slots come from and go to, for rows that are moved by gather.wgsl:
//
//   tokens[p]    = the token of the slot at position p
//   places[slot] = the slot's position, or a row that nothing has where the slot has no expert
//
// One invocation a position; memory-bound, 4 · slots · 4 bytes.

struct Shape {
  slots: u32,
  ranks: u32,
  experts: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> experts: array<u32>;        // [slots]
@group(0) @binding(2) var<storage, read> order: array<u32>;          // [slots]: the slot at each position
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;   // [slots]
@group(0) @binding(4) var<storage, read_write> places: array<u32>;   // [slots]

@compute @workgroup_size(256)
fn expert_places(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let p = (group.x + group.y * groups.x) * 256 + lane;
  if (p >= shape.slots) { return; }
  let slot = order[p];
  tokens[p] = slot / shape.ranks;
  places[slot] = select(0xffffffff, p, experts[slot] < shape.experts);
}
