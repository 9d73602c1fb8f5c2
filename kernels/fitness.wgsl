// Σ_t ‖F(x_t) - F(x_t; S)‖² for a population of sets S of dropped experts, by dᵀ G d: d is the change of the routing weights of a token's ranked
// experts, G the inner products of their outputs (DESIGN.md, "What makes it fast"). Where the output lacks R already, by dᵀ G d + 2 ⟨R, O d⟩.
//
// One invocation a set, one workgroup 64 sets and a block of tokens. All invocations read the same token at the same time, so its rows are read once
// for 64 sets. A first walk along the ranks finds what is chosen before and after: the sums of their probabilities and how far each choice reaches
// (cut). A second walk forms dᵀ G d over the ranks within the cuts.
//
// Where an expert stays chosen its weight changes by a factor on p alone, formed without subtracting near equals:
//   renormalised  p (1/B - 1/A) = p (A - B) / (A B), A - B summed from the experts that come and go: exactly 0 where none does
//   else          p (1 - 1/left) = -p · lost / left, exactly 0 where nothing is lost; left is the sum of what stays where that is less than half
//
// Sums over a block of tokens are f32, over blocks the host's. About sets · tokens · cut² · 2 FLOPs.

struct Shape {
  tokens: u32,
  ranks: u32,
  count: u32,        // experts
  sets: u32,
  block: u32,        // tokens a workgroup
  top_k: u32,
  keep: u32,         // groups that stay; 0 for no groups
  renormalise: u32,
  scale: f32,
  first: u32,        // block of `partial` that block 0 goes to
  lacking: u32,      // 1 where the output lacks a vector R already
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> experts: array<u32>;        // [tokens, ranks], by falling probability; 0xffffffff for none
@group(0) @binding(2) var<storage, read> ranked: array<f32>;         // [tokens, ranks], their probabilities
@group(0) @binding(3) var<storage, read> probabilities: array<f32>;  // [tokens, count]
@group(0) @binding(4) var<storage, read> gram: array<f32>;           // [tokens, ranks, ranks]
@group(0) @binding(5) var<storage, read> dropped: array<u32>;        // [count / 32, sets], a bit an expert
@group(0) @binding(6) var<storage, read> group_of: array<u32>;       // [count], below 128, where there are groups
@group(0) @binding(7) var<storage, read_write> partial: array<f32>;  // [blocks, sets]
@group(0) @binding(8) var<storage, read> along: array<f32>;          // [tokens, ranks], inner products of the outputs with R

// Probability that counts as none: a token whose experts have no more left has an output of zero.
const LEAST = 1e-37;

struct Choice {
  taken: u32,    // experts chosen
  cut: u32,      // one past the last rank chosen
  sum: f32,      // of their probabilities
  groups: u32,   // groups met
  seen: vec4u,   // a bit a group
}

@compute @workgroup_size(64)
fn fitness(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (shape.sets + 63) / 64;
  let index = group.x + group.y * groups.x;
  let member = index % across * 64 + lane;
  let begin = index / across * shape.block;
  if (member >= shape.sets || begin >= shape.tokens) { return; }
  var total = 0.0;
  for (var token = begin; token < min(begin + shape.block, shape.tokens); token++) { total += change(token, member); }
  partial[(shape.first + index / across) * shape.sets + member] = total;
}

fn change(token: u32, member: u32) -> f32 {
  let row = token * shape.ranks;
  var before = Choice();
  var after = Choice();
  var gained = 0.0;
  for (var r = 0u; r < shape.ranks && (before.taken < shape.top_k || after.taken < shape.top_k); r++) {
    let e = experts[row + r];
    if (e == 0xffffffff) { break; }
    let p = ranked[row + r];
    let was = choose(&before, e, r, p);
    var is = false;
    if (!drops(member, e)) { is = choose(&after, e, r, p); }
    if (is && !was) { gained += p; }
    if (was && !is) { gained -= p; }
  }

  // Factors on the probability: before, after, and the change where an expert stays.
  var old = shape.scale;
  var grown = shape.scale;
  var both = 0.0;
  if (shape.renormalise == 1) {
    old = divided(old, before.sum);
    grown = divided(grown, after.sum);
    both = divided(old * gained, after.sum);
  } else {
    let lost = mass(token, member, true);
    var left = 1 - lost;
    if (lost > 0.5) { left = mass(token, member, false); }
    grown = divided(grown, left);
    both = -grown * lost;
  }

  var total = 0.0;
  for (var i = 0u; i < max(before.cut, after.cut); i++) {
    let d = weight(row, i, member, before, after, old, grown, both);
    if (d == 0) { continue; }
    let at = (row + i) * shape.ranks;
    var sum = 0.0;
    for (var j = 0u; j < i; j++) { sum += gram[at + j] * weight(row, j, member, before, after, old, grown, both); }
    if (shape.lacking == 1) { sum += along[row + i]; }
    total += d * (2 * sum + gram[at + i] * d);
  }
  return total;
}

// Zero where there is next to nothing to divide by.
fn divided(value: f32, by: f32) -> f32 {
  if (by < LEAST) { return 0; }
  return value / by;
}

// Takes the expert at rank r if there is room: in the top k and, with groups, in its group.
fn choose(choice: ptr<function, Choice>, e: u32, r: u32, p: f32) -> bool {
  if ((*choice).taken == shape.top_k) { return false; }
  if (shape.keep > 0) {
    let g = group_of[e];
    if (!met((*choice).seen, g)) {
      if ((*choice).groups == shape.keep) { return false; }
      (*choice).groups++;
      let bit = 1u << (g % 32);
      (*choice).seen |= select(vec4u(), vec4u(bit), vec4u(0, 1, 2, 3) == vec4u(g / 32));
    }
  }
  (*choice).taken++;
  (*choice).sum += p;
  (*choice).cut = r + 1;
  return true;
}

fn met(seen: vec4u, g: u32) -> bool {
  return ((seen[g / 32] >> (g % 32)) & 1) == 1;
}

// d at rank r: what the weight was less what it is.
fn weight(row: u32, r: u32, member: u32, before: Choice, after: Choice, old: f32, grown: f32, both: f32) -> f32 {
  let e = experts[row + r];
  let p = ranked[row + r];
  var was = r < before.cut;
  var is = r < after.cut && !drops(member, e);
  if (shape.keep > 0) {
    was = was && met(before.seen, group_of[e]);
    is = is && met(after.seen, group_of[e]);
  }
  if (was && is) { return both * p; }
  if (was) { return old * p; }
  if (is) { return -grown * p; }
  return 0;
}

fn drops(member: u32, e: u32) -> bool {
  return ((dropped[e / 32 * shape.sets + member] >> (e % 32)) & 1) == 1;
}

// Probability of the dropped experts, or of the others.
fn mass(token: u32, member: u32, lost: bool) -> f32 {
  var sum = 0.0;
  for (var first = 0u; first < shape.count; first += 32) {
    var bits = dropped[first / 32 * shape.sets + member];
    if (!lost) {
      bits = ~bits;
      if (shape.count - first < 32) { bits &= (1u << (shape.count - first)) - 1; }
    }
    for (; bits != 0; bits &= bits - 1) { sum += probabilities[token * shape.count + first + firstTrailingBit(bits)]; }
  }
  return sum;
}
