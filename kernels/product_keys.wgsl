// experts[t, r], scores[t, r] = the pair i · m + j of keys with the (r + 1)-th largest sum first[t, i] + second[t, j], and that sum; ties go to the lower pair
//
// One workgroup a row. The `ranks` best of each half are found one after the other: each is the best of those behind its predecessor, by a tree in
// workgroup memory; then the best pairs of these lists in the same way. Any pair beyond them has `ranks` others before it. Reads ranks · (n + m) numbers
// from cache and ranks³ sums from workgroup memory.

struct Shape {
  rows: u32,
  n: u32,      // first keys
  m: u32,      // second keys
  ranks: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> first: array<f32>;           // [rows, n]
@group(0) @binding(2) var<storage, read> second: array<f32>;          // [rows, m]
@group(0) @binding(3) var<storage, read_write> experts: array<u32>;   // [rows, ranks]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;    // [rows, ranks]

struct Scored {
  value: f32,
  item: u32,
}

const LOWEST = -3.4028234e38;
const NOTHING = Scored(LOWEST, 0xffffffff);

var<workgroup> lanes: array<Scored, 64>;
var<workgroup> best_first: array<Scored, 256>;   // at most so many of a half
var<workgroup> best_second: array<Scored, 256>;

@compute @workgroup_size(64)
fn product_keys(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let short = min(shape.ranks, shape.n);
  let wide = min(shape.ranks, shape.m);

  for (var r = 0u; r < short; r++) {
    var best = NOTHING;
    for (var i = lane; i < shape.n; i += 64) {
      let other = Scored(ordered(first[row * shape.n + i]), i);
      if ((r == 0 || before(best_first[r - 1], other)) && before(other, best)) { best = other; }
    }
    best = best_of_lanes(best, lane);
    if (lane == 0) { best_first[r] = best; }
    workgroupBarrier();
  }
  for (var r = 0u; r < wide; r++) {
    var best = NOTHING;
    for (var j = lane; j < shape.m; j += 64) {
      let other = Scored(ordered(second[row * shape.m + j]), j);
      if ((r == 0 || before(best_second[r - 1], other)) && before(other, best)) { best = other; }
    }
    best = best_of_lanes(best, lane);
    if (lane == 0) { best_second[r] = best; }
    workgroupBarrier();
  }
  var last = NOTHING;
  for (var r = 0u; r < shape.ranks; r++) {
    var best = NOTHING;
    for (var c = lane; c < short * wide; c += 64) {
      let a = best_first[c / wide];
      let b = best_second[c % wide];
      let other = Scored(max(a.value + b.value, LOWEST), a.item * shape.m + b.item);
      if ((r == 0 || before(last, other)) && before(other, best)) { best = other; }
    }
    last = best_of_lanes(best, lane);
    if (lane == 0) {
      experts[row * shape.ranks + r] = last.item;
      scores[row * shape.ranks + r] = first[row * shape.n + last.item / shape.m] + second[row * shape.m + last.item % shape.m];
    }
  }
}

fn before(a: Scored, b: Scored) -> bool {
  return a.value > b.value || (a.value == b.value && a.item < b.item);
}

fn best_of_lanes(mine: Scored, lane: u32) -> Scored {
  lanes[lane] = mine;
  for (var step = 32u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step && before(lanes[lane + step], lanes[lane])) { lanes[lane] = lanes[lane + step]; }
  }
  workgroupBarrier();
  let best = lanes[0];
  workgroupBarrier();
  return best;
}

// What is not a number comes last. By its bits, because WGSL lets compilers assume that there are none.
fn ordered(p: f32) -> f32 {
  return select(max(p, LOWEST), LOWEST, (bitcast<u32>(p) & 0x7fffffff) > 0x7f800000);
}
