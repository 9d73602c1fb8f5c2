// What products over sorted slots need besides expert_order's tiles, for the positions first to first + count - 1, which are counted from 0 here:
//
//   parts[i] = tile i, as much of it as lies among them: (expert, first position, positions)
//   runs[e]  = (first position, positions) of expert e
//
// One invocation a tile, and one an expert, which looks through all tiles: tiles · experts reads from cache, a few thousand times a few hundred.

struct Shape {
  tiles: u32,
  experts: u32,
  first: u32,
  count: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>;        // [tiles]
@group(0) @binding(2) var<storage, read_write> parts: array<vec4u>;  // [tiles]
@group(0) @binding(3) var<storage, read_write> runs: array<vec2u>;   // [experts]

@compute @workgroup_size(64)
fn expert_runs(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * groups.x) * 64 + lane;
  if (i < shape.tiles) { parts[i] = inside(tiles[i]); }
  if (i >= shape.experts) { return; }
  var run = vec2u();
  for (var t = 0u; t < shape.tiles; t++) {
    let tile = inside(tiles[t]);
    if (tile.x == i && tile.z > 0) {
      if (run.y == 0) { run.x = tile.y; }
      run.y += tile.z;
    }
  }
  runs[i] = run;
}

fn inside(tile: vec4u) -> vec4u {
  let begin = max(tile.y, shape.first);
  let end = min(tile.y + tile.z, shape.first + shape.count);
  if (begin >= end) { return vec4u(); }
  return vec4u(tile.x, begin - shape.first, end - begin, 0);
}
