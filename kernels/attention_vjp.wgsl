// One of the three gradients of y = P v with P = softmax(scale · q kᵀ), head by head, causal within segments, as columns of 32 times `chunks`:
//
//   goal 0   dq[t] = Σ_j dS[t, j] · k[j]       over the keys j up to t
//   goal 1   dk[j] = Σ_t dS[t, j] · q[t]       over the rows t from j on, of all query heads that share the key head
//   goal 2   dv[j] = Σ_t P[t, j] · dy[t]       likewise
//
// with dS = scale · P · (dy vᵀ - Σ_j P · dy vᵀ); row maxima and sums come from attention_sums.wgsl. A workgroup of 64 takes 32 rows of the gradient and one
// (key) head, and walks along the other side in blocks of 32 rows, and along the query heads. P and dS exist for one block only:
//
//   scores   32 x 32 by steps of 16 along the width, 4 x 4 a lane, both sides turned in workgroup memory; dy vᵀ likewise
//   p        P or dS goes through workgroup memory, the rows that are summed over outermost
//   fold     32 columns at a time: gradient += pᵀ · (k, q or dy), 4 x 4 sums a lane and 32 columns, all held in registers
//
// A lane's four rows of each side lie 8 apart, which keeps the stores of p off each other's banks. Nothing is shared between workgroups: no atomics, the
// same bits on every run. Rows are whole vectors, a multiple of four, with zeros at the end (pack_heads.wgsl). FLOPs a pair: 2 · (2 · width + value width)
// for goals 0 and 1, 2 · (width + value width) for goal 2, for each 256 columns of the gradient. Workgroup memory 13.5 KiB.

struct Shape {
  heads: u32,
  key_heads: u32,
  width: u32,       // vectors of four of a head's queries and keys
  value_width: u32, // and of its values
  scale: f32,
  first: u32,       // block of the table to begin with
  blocks: u32,
  column: u32,      // vector of the gradient's row to begin with
}

override goal: u32 = 0;
override chunks: u32 = 8; // of 32 columns

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;         // [tokens, heads, width]
@group(0) @binding(2) var<storage, read> k: array<vec4f>;         // [tokens, key heads, width]
@group(0) @binding(3) var<storage, read> v: array<vec4f>;         // [tokens, key heads, value width]
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;        // [tokens, heads, value width]
@group(0) @binding(5) var<storage, read> table: array<vec4u>;     // a block's first row, its segment's first and the row after its last
@group(0) @binding(6) var<storage, read> sums: array<vec4f>;      // [tokens, heads]: largest score, 1 / Σ exp, Σ P · dy vᵀ
@group(0) @binding(7) var<storage, read_write> g: array<vec4f>;   // the gradient, as q, k or v

var<workgroup> a: array<vec4f, 144>; // [16 of the width, 9]: query rows n, n + 8, n + 16, n + 24 a vector
var<workgroup> b: array<vec4f, 144>; // [16 of the width, 9]: keys, likewise
var<workgroup> p: array<vec4f, 288>; // [32 rows summed over, 9]: P or dS, rows n, n + 8, n + 16, n + 24 of the gradient a vector
var<workgroup> w: array<vec4f, 288>; // [32 rows summed over, 9]: 32 columns

// Where a lane stands.
struct Walk {
  query: u32,    // first rows of the block
  key: u32,
  end: u32,      // the row after the segment's last
  head: u32,
  key_head: u32,
  wide: u32,
  high: u32,
}

@compute @workgroup_size(64)
fn attention_vjp(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.blocks * select(shape.key_heads, shape.heads, goal == 0)) { return; }
  let block = table[shape.first + index % shape.blocks];
  let own = index / shape.blocks; // head of the gradient

  // Query heads that it comes from, and blocks on the other side.
  var head = own;
  var heads = 1u;
  var length = (block.x - block.y) / 32 + 1;
  if (goal != 0) {
    head = (own * shape.heads + shape.key_heads - 1) / shape.key_heads;
    heads = ((own + 1) * shape.heads + shape.key_heads - 1) / shape.key_heads - head;
    length = (block.z - block.x + 31) / 32;
  }

  var o0 = mat4x4f(); var o1 = mat4x4f(); var o2 = mat4x4f(); var o3 = mat4x4f(); // a column is a row's four columns
  var o4 = mat4x4f(); var o5 = mat4x4f(); var o6 = mat4x4f(); var o7 = mat4x4f();
  for (var step = 0u; step < heads * length; step++) {
    var at = Walk(block.x, block.y + 32 * step, block.z, head, own * shape.key_heads / shape.heads, lane % 8, lane / 8);
    if (goal != 0) { at = Walk(block.x + step % length * 32, block.x, block.z, head + step / length, own, lane % 8, lane / 8); }
    put_slopes(lane, at);
    fold(at, 0, &o0);
    if (chunks > 1) { fold(at, 1, &o1); }
    if (chunks > 2) { fold(at, 2, &o2); }
    if (chunks > 3) { fold(at, 3, &o3); }
    if (chunks > 4) { fold(at, 4, &o4); }
    if (chunks > 5) { fold(at, 5, &o5); }
    if (chunks > 6) { fold(at, 6, &o6); }
    if (chunks > 7) { fold(at, 7, &o7); }
  }

  let row = vec4u(block.x + lane / 8) + vec4u(0, 8, 16, 24);
  let column = shape.column + lane % 8;
  store(row, block.z, own, column, o0);
  if (chunks > 1) { store(row, block.z, own, column + 8, o1); }
  if (chunks > 2) { store(row, block.z, own, column + 16, o2); }
  if (chunks > 3) { store(row, block.z, own, column + 24, o3); }
  if (chunks > 4) { store(row, block.z, own, column + 32, o4); }
  if (chunks > 5) { store(row, block.z, own, column + 40, o5); }
  if (chunks > 6) { store(row, block.z, own, column + 48, o6); }
  if (chunks > 7) { store(row, block.z, own, column + 56, o7); }
}

// P or dS of a block into workgroup memory; the barrier after it is fold's.
fn put_slopes(lane: u32, at: Walk) {
  let rows = min(vec4u(lane % 32 / 4) + vec4u(0, 8, 16, 24) + select(at.key, at.query, lane < 32), vec4u(at.end - 1));
  var s = mat4x4f(); // a column is a query row's four keys
  for (var d = 0u; d < shape.width; d += 4) {
    if (lane < 32) {
      let i = (rows * shape.heads + at.head) * shape.width + d + lane % 4;
      turn_a(lane, mat4x4f(q[i.x], q[i.y], q[i.z], q[i.w]));
    } else {
      let i = (rows * shape.key_heads + at.key_head) * shape.width + d + lane % 4;
      turn_b(lane, mat4x4f(k[i.x], k[i.y], k[i.z], k[i.w]));
    }
    workgroupBarrier();
    multiply(at.wide, at.high, &s);
    workgroupBarrier();
  }
  var t = mat4x4f();
  if (goal != 2) {
    for (var d = 0u; d < shape.value_width; d += 4) {
      if (lane < 32) {
        let i = (rows * shape.heads + at.head) * shape.value_width + d + lane % 4;
        turn_a(lane, mat4x4f(dy[i.x], dy[i.y], dy[i.z], dy[i.w]));
      } else {
        let i = (rows * shape.key_heads + at.key_head) * shape.value_width + d + lane % 4;
        turn_b(lane, mat4x4f(v[i.x], v[i.y], v[i.z], v[i.w]));
      }
      workgroupBarrier();
      multiply(at.wide, at.high, &t);
      workgroupBarrier();
    }
  }

  let query = vec4u(at.query + at.high) + vec4u(0, 8, 16, 24);
  let slopes = mat4x4f(slope(at, query.x, s[0], t[0]), slope(at, query.y, s[1], t[1]), slope(at, query.z, s[2], t[2]), slope(at, query.w, s[3], t[3]));
  if (goal == 0) {
    let turned = transpose(slopes);
    let to = at.wide * 9 + at.high;
    p[to] = turned[0]; p[to + 72] = turned[1]; p[to + 144] = turned[2]; p[to + 216] = turned[3];
  } else {
    let to = at.high * 9 + at.wide;
    p[to] = slopes[0]; p[to + 72] = slopes[1]; p[to + 144] = slopes[2]; p[to + 216] = slopes[3];
  }
}

// P or dS of one query row and four keys; zero past the row, and past the segment's end.
fn slope(at: Walk, query: u32, s: vec4f, t: vec4f) -> vec4f {
  let row = sums[min(query, at.end - 1) * shape.heads + at.head];
  let key = vec4u(at.key + at.wide) + vec4u(0, 8, 16, 24);
  var value = exp(s * shape.scale - row.x) * row.y;
  if (goal != 2) { value *= shape.scale * (t - row.z); }
  return select(vec4f(), value, (key <= vec4u(query)) & vec4<bool>(query < at.end));
}

// o += pᵀ · what the sum is over, for columns 32 · chunk to 32 · chunk + 31.
fn fold(at: Walk, chunk: u32, o: ptr<function, mat4x4f>) {
  let column = shape.column + 8 * chunk + at.wide;
  for (var j = at.high; j < 32; j += 8) {
    let row = min(select(at.query, at.key, goal == 0) + j, at.end - 1);
    var value: vec4f;
    if (goal == 0) { value = k[(row * shape.key_heads + at.key_head) * shape.width + column]; }
    if (goal == 1) { value = q[(row * shape.heads + at.head) * shape.width + column]; }
    if (goal == 2) { value = dy[(row * shape.heads + at.head) * shape.value_width + column]; }
    w[j * 9 + at.wide] = value;
  }
  workgroupBarrier();
  var products = *o;
  for (var i = 0u; i < 288; i += 36) {
    outer(&products, p[i + at.high], w[i + at.wide]);
    outer(&products, p[i + 9 + at.high], w[i + 9 + at.wide]);
    outer(&products, p[i + 18 + at.high], w[i + 18 + at.wide]);
    outer(&products, p[i + 27 + at.high], w[i + 27 + at.wide]);
  }
  *o = products;
  workgroupBarrier();
}

fn store(row: vec4u, end: u32, head: u32, column: u32, o: mat4x4f) {
  let width = select(shape.width, shape.value_width, goal == 2);
  let at = (row * select(shape.key_heads, shape.heads, goal == 0) + head) * width + column;
  if (column >= width) { return; }
  if (row.x < end) { g[at.x] = o[0]; }
  if (row.y < end) { g[at.y] = o[1]; }
  if (row.z < end) { g[at.z] = o[2]; }
  if (row.w < end) { g[at.w] = o[3]; }
}

// Four rows by four steps of the width, turned: a vector holds one step of four rows.
fn turn_a(lane: u32, rows: mat4x4f) {
  let turned = transpose(rows);
  let to = lane % 4 * 36 + lane / 4;
  a[to] = turned[0]; a[to + 9] = turned[1]; a[to + 18] = turned[2]; a[to + 27] = turned[3];
}

fn turn_b(lane: u32, rows: mat4x4f) {
  let turned = transpose(rows);
  let to = lane % 4 * 36 + lane / 4 - 8;
  b[to] = turned[0]; b[to + 9] = turned[1]; b[to + 18] = turned[2]; b[to + 27] = turned[3];
}

// s += 16 steps of the width.
fn multiply(wide: u32, high: u32, s: ptr<function, mat4x4f>) {
  var products = *s;
  for (var i = 0u; i < 144; i += 36) {
    outer(&products, a[i + high], b[i + wide]);
    outer(&products, a[i + 9 + high], b[i + 9 + wide]);
    outer(&products, a[i + 18 + high], b[i + 18 + wide]);
    outer(&products, a[i + 27 + high], b[i + 27 + wide]);
  }
  *s = products;
}

// s += u vᵀ, a column of s for each element of u.
fn outer(s: ptr<function, mat4x4f>, u: vec4f, v: vec4f) {
  (*s)[0] = fma(vec4f(u.x), v, (*s)[0]);
  (*s)[1] = fma(vec4f(u.y), v, (*s)[1]);
  (*s)[2] = fma(vec4f(u.z), v, (*s)[2]);
  (*s)[3] = fma(vec4f(u.w), v, (*s)[3]);
}
