// Sorts the slots (token, rank) of a table of experts by expert and cuts each expert's run into tiles of 64 positions.
//
//   order[p]  = the slot at position p: those of expert 0, then those of expert 1, …, each in rising order; last come the slots without an expert
//   tiles[i]  = (expert, first position, positions); zero positions beyond the last tile
//
// A counting sort by one workgroup in rounds of 256 slots: the table of a chunk is small (a few hundred rounds at most) against the products it steers.
// Where atomics are used, for counting, their order does not matter; a slot's place within its round is the number of earlier slots with its expert.

struct Shape {
  slots: u32,
  experts: u32, // at most 1,023; slots that name none of them go last
  tiles: u32,   // at least slots / 64 + experts + 1
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> experts: array<u32>;        // [slots]
@group(0) @binding(2) var<storage, read_write> order: array<u32>;    // [slots]
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4u>;  // [tiles]

var<workgroup> counts: array<atomic<u32>, 1024>;
var<workgroup> next: array<u32, 1024>;      // first free position of each expert
var<workgroup> tile_start: array<u32, 1024>;
var<workgroup> tiles_used: u32;
var<workgroup> round: array<u32, 256>;      // experts of the slots of this round

@compute @workgroup_size(256)
fn expert_order(@builtin(local_invocation_index) lane: u32) {
  for (var e = lane; e < 1024; e += 256) { atomicStore(&counts[e], 0); }
  workgroupBarrier();
  for (var slot = lane; slot < shape.slots; slot += 256) { atomicAdd(&counts[min(experts[slot], shape.experts)], 1); }
  workgroupBarrier();

  if (lane == 0) {
    var position = 0u;
    var tile = 0u;
    for (var e = 0u; e <= shape.experts; e++) {
      next[e] = position;
      tile_start[e] = tile;
      position += atomicLoad(&counts[e]);
      tile += (atomicLoad(&counts[e]) + 63) / 64;
    }
    tiles_used = tile;
  }
  workgroupBarrier();

  for (var e = lane; e <= shape.experts; e += 256) {
    let count = atomicLoad(&counts[e]);
    for (var done = 0u; done < count; done += 64) {
      tiles[tile_start[e] + done / 64] = vec4u(e, next[e] + done, min(64, count - done), 0);
    }
  }
  for (var i = tiles_used + lane; i < shape.tiles; i += 256) { tiles[i] = vec4u(); }
  workgroupBarrier();

  for (var start = 0u; start < shape.slots; start += 256) {
    let slot = start + lane;
    let length = min(256, shape.slots - start);
    var expert = shape.experts;
    if (slot < shape.slots) { expert = min(experts[slot], shape.experts); }
    round[lane] = expert;
    workgroupBarrier();
    var earlier = 0u;
    var later = 0u;
    for (var other = 0u; other < length; other++) {
      if (round[other] == expert) {
        if (other < lane) { earlier++; } else if (other > lane) { later++; }
      }
    }
    let position = next[expert] + earlier;
    workgroupBarrier();
    if (slot < shape.slots) {
      order[position] = slot;
      if (later == 0) { next[expert] = position + 1; }
    }
  }
}
