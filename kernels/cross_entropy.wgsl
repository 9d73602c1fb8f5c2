// loss[t] = log Σ_v exp(z[t, v]) - z[t, target[t]], the logits z coming block by block of the vocabulary
//
// state[t] = (m, s, c, f): the largest logit so far, Σ exp(z - m) over the blocks so far, the target's logit, and 1 once its block has come. One workgroup a
// row folds one block into it: s ← s · exp(m - m') + Σ exp(z - m') with m' the new maximum, sums by a tree. After the last block the loss is
// (m - c) + log s, and not a number where the target lies beyond the vocabulary. Reads a block twice, the second time from cache: memory-bound, rows · width · 4 bytes a block.

struct Shape {
  rows: u32,
  width: u32,     // logits in the block
  start: u32,     // vocabulary index of the block's first
  is_first: u32,  // 1 on the first block: state is not read
  is_last: u32,   // 1 on the last block: losses are written
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> logits: array<f32>;         // [rows, width]
@group(0) @binding(2) var<storage, read> targets: array<u32>;        // [rows]
@group(0) @binding(3) var<storage, read_write> state: array<vec4f>;  // [rows]
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;   // [rows]

// Not a constant, because WGSL refuses one that is not a number.
var<private> not_a_number = 0x7fc00000u;

var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(256)
fn cross_entropy(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= shape.rows) { return; }
  let begin = row * shape.width;
  let end = begin + shape.width;

  var peak = logits[begin];
  for (var i = begin + lane; i < end; i += 256) { peak = max(peak, logits[i]); }
  partial[lane] = peak;
  for (var step = 128u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] = max(partial[lane], partial[lane + step]); }
  }
  workgroupBarrier();
  peak = partial[0];
  workgroupBarrier();

  var before = vec4f(peak, 0, 0, 0);
  if (shape.is_first == 0) { before = state[row]; }
  peak = max(peak, before.x);

  var sum = 0.0;
  for (var i = begin + lane; i < end; i += 256) { sum += exp(logits[i] - peak); }
  partial[lane] = sum;
  for (var step = 128u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();

  if (lane == 0) {
    let total = before.y * exp(before.x - peak) + partial[0];
    let column = targets[row] - shape.start; // wraps round to a large number before the block
    var chosen = before.zw;
    if (column < shape.width) { chosen = vec2f(logits[begin + column], 1); }
    state[row] = vec4f(peak, total, chosen);
    if (shape.is_last == 1) { losses[row] = select(bitcast<f32>(not_a_number), (peak - chosen.x) + log(total), chosen.y == 1); }
  }
}
