// experts[t, r], ranked[t, r] = the expert with the (r + 1)-th largest probability of token t, and that probability; ties go to the lower index
//
// One workgroup a token. An expert's rank is the number of experts before it: those more probable, or as probable with a lower index. That is
// experts² comparisons of values that all invocations read at the same time from cache, no sort and no order to keep.
//
// With groups, only experts of the `keep` groups with the best single expert take part; a group's place is found in the same way. Ranks that no
// expert fills hold NO_EXPERT and 0.

struct Shape {
  tokens: u32,
  count: u32,  // experts
  ranks: u32,
  groups: u32, // at most 128; 0 for no groups
  keep: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> probabilities: array<f32>;    // [tokens, count]
@group(0) @binding(2) var<storage, read> group_of: array<u32>;         // [count] where there are groups
@group(0) @binding(3) var<storage, read_write> experts: array<u32>;    // [tokens, ranks]
@group(0) @binding(4) var<storage, read_write> ranked: array<f32>;     // [tokens, ranks]

var<workgroup> best: array<f32, 128>;      // probability of each group's best expert
var<workgroup> admitted: array<u32, 128>;

@compute @workgroup_size(64)
fn rank(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let token = group.x + group.y * groups.x;
  if (token >= shape.tokens) { return; }
  let row = token * shape.count;
  let to = token * shape.ranks;

  for (var g = lane; g < shape.groups; g += 64) {
    var most = -1.0;
    for (var e = 0u; e < shape.count; e++) {
      if (group_of[e] == g) { most = max(most, ordered(probabilities[row + e])); }
    }
    best[g] = most;
  }
  workgroupBarrier();
  for (var g = lane; g < shape.groups; g += 64) {
    var before = 0u;
    for (var other = 0u; other < shape.groups; other++) {
      if (best[other] > best[g] || (best[other] == best[g] && other < g)) { before++; }
    }
    admitted[g] = select(0u, 1u, before < shape.keep);
  }
  for (var r = lane; r < shape.ranks; r += 64) {
    experts[to + r] = 0xffffffff;
    ranked[to + r] = 0;
  }
  storageBarrier();
  workgroupBarrier();

  for (var e = lane; e < shape.count; e += 64) {
    if (!takes_part(e)) { continue; }
    let p = ordered(probabilities[row + e]);
    var before = 0u;
    for (var other = 0u; other < shape.count; other++) {
      let q = ordered(probabilities[row + other]);
      if ((q > p || (q == p && other < e)) && takes_part(other)) { before++; }
    }
    if (before < shape.ranks) {
      experts[to + before] = e;
      ranked[to + before] = probabilities[row + e];
    }
  }
}

// What is not a number comes after all probabilities. By its bits, because WGSL lets compilers assume that there are none.
fn ordered(p: f32) -> f32 {
  return select(p, -1.0, (bitcast<u32>(p) & 0x7fffffff) > 0x7f800000);
}

fn takes_part(e: u32) -> bool {
  if (shape.groups == 0) { return true; }
  return admitted[group_of[e]] == 1;
}
