// y[t, h] = Σ_j softmax_j(scale · Σ_parts q[t, h] · k[j, h]) · v[j, h] over the keys j that token t sees: its prefix, then its segment up to itself
//
// A workgroup of 64 takes up to 32 query rows of one segment and one head, and walks along the keys in blocks of 32 with the online softmax: for each row
// the largest score m so far, the sum l of exp(score - m) and the output so far, all rescaled when m grows. Scores exist for one block only.
//
//   scores   32 x 32 by steps of 16 along the width, 4 x 4 a lane, queries and keys turned in workgroup memory (as in linear.wgsl)
//   softmax  a lane's 4 rows: block maxima through workgroup memory, l summed per lane and across lanes only at the end
//   values   32 columns at a time: y += p · v with p turned through workgroup memory, 4 x 4 sums a lane and 32 columns, all held in registers
//
// A lane's four rows lie side by side, its four keys 8 apart, which keeps the stores of p off each other's banks. Heads of any width; values of at most
// 256 columns a dispatch. (2 · width + 2 · value width) · 1024 FLOPs a block of keys; queries, keys and values come from cache once a block.
// Workgroup memory 15 KiB.

struct Heads {
  row: u32,     // elements from one token to the next
  stride: u32,  // elements from one head to the next
  offset: u32,
  width: u32,   // 0 where there is no second part
}

struct Shape {
  q0: Heads,
  q1: Heads,
  k0: Heads,
  k1: Heads,
  v: Heads,
  heads: u32,
  key_heads: u32,
  scale: f32,
  first: u32,   // block of the table to begin with
  blocks: u32,
  y_row: u32,   // elements from one token of y to the next
  y_stride: u32,
  y_offset: u32,
}

struct Block {
  query: u32,   // first row
  rows: u32,    // at most 32
  prefix: u32,  // first key row of the prefix
  lead: u32,    // rows in the prefix
  own: u32,     // first key row of the segment
  past: u32,    // rows of the segment before the block
}

override chunks: u32 = 8; // of 32 value columns

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> q0: array<f32>;
@group(0) @binding(2) var<storage, read> q1: array<f32>;
@group(0) @binding(3) var<storage, read> k0: array<f32>;
@group(0) @binding(4) var<storage, read> k1: array<f32>;
@group(0) @binding(5) var<storage, read> v: array<f32>;
@group(0) @binding(6) var<storage, read> table: array<Block>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

var<workgroup> a: array<vec4f, 144>;  // [16 of the width, 9]: queries, four rows a vector
var<workgroup> b: array<vec4f, 144>;  // [16 of the width, 9]: keys n, n + 8, n + 16, n + 24 a vector
var<workgroup> p: array<vec4f, 288>;  // [32 keys, 9]: exp(score - m), four rows a vector
var<workgroup> w: array<vec4f, 288>;  // [32 keys, 9]: values, four columns a vector
var<workgroup> r: array<vec4f, 72>;   // [8, 9]: what the lanes of a row exchange

const LOWEST = -3.0e38;

@compute @workgroup_size(64)
fn attention(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.blocks * shape.heads) { return; }
  let block = table[shape.first + index % shape.blocks];
  let head = index / shape.blocks;
  let key_head = head * shape.key_heads / shape.heads;
  let keys = block.lead + block.past + block.rows;

  let wide = lane % 8; // keys wide, wide + 8, …; value columns 4 · wide
  let high = lane / 8; // rows 4 · high
  // The last key that each of the four rows sees.
  let last = vec4u(block.lead + block.past + 4 * high) + vec4u(0, 1, 2, 3);

  var o0 = mat4x4f(); var o1 = mat4x4f(); var o2 = mat4x4f(); var o3 = mat4x4f(); // a column is a row's four value columns
  var o4 = mat4x4f(); var o5 = mat4x4f(); var o6 = mat4x4f(); var o7 = mat4x4f();
  var m = vec4f(LOWEST);
  var l = vec4f();

  for (var start = 0u; start < keys; start += 32) {
    var s = mat4x4f(); // a column is a row's four keys
    for (var d = 0u; d < shape.q0.width; d += 16) {
      for (var n = lane / 16; n < 8; n += 4) {
        let at = d + lane % 16;
        let inside = at < shape.q0.width;
        let q = query_rows(block, 4 * n) * shape.q0.row + head * shape.q0.stride + shape.q0.offset + at;
        let k = key_rows(block, keys, start + n) * shape.k0.row + key_head * shape.k0.stride + shape.k0.offset + at;
        a[lane % 16 * 9 + n] = select(vec4f(), vec4f(q0[q.x], q0[q.y], q0[q.z], q0[q.w]), inside);
        b[lane % 16 * 9 + n] = select(vec4f(), vec4f(k0[k.x], k0[k.y], k0[k.z], k0[k.w]), inside);
      }
      workgroupBarrier();
      multiply(wide, high, &s);
      workgroupBarrier();
    }
    for (var d = 0u; d < shape.q1.width; d += 16) {
      for (var n = lane / 16; n < 8; n += 4) {
        let at = d + lane % 16;
        let inside = at < shape.q1.width;
        let q = query_rows(block, 4 * n) * shape.q1.row + head * shape.q1.stride + shape.q1.offset + at;
        let k = key_rows(block, keys, start + n) * shape.k1.row + key_head * shape.k1.stride + shape.k1.offset + at;
        a[lane % 16 * 9 + n] = select(vec4f(), vec4f(q1[q.x], q1[q.y], q1[q.z], q1[q.w]), inside);
        b[lane % 16 * 9 + n] = select(vec4f(), vec4f(k1[k.x], k1[k.y], k1[k.z], k1[k.w]), inside);
      }
      workgroupBarrier();
      multiply(wide, high, &s);
      workgroupBarrier();
    }

    let key = vec4u(start + wide) + vec4u(0, 8, 16, 24);
    let s0 = select(vec4f(LOWEST), s[0] * shape.scale, key <= vec4u(last.x));
    let s1 = select(vec4f(LOWEST), s[1] * shape.scale, key <= vec4u(last.y));
    let s2 = select(vec4f(LOWEST), s[2] * shape.scale, key <= vec4u(last.z));
    let s3 = select(vec4f(LOWEST), s[3] * shape.scale, key <= vec4u(last.w));
    r[high * 9 + wide] = vec4f(largest(s0), largest(s1), largest(s2), largest(s3));
    workgroupBarrier();
    // Every row sees key 0, so from the first block on m is a score.
    var peak = m;
    for (var i = 0u; i < 8; i++) { peak = max(peak, r[high * 9 + i]); }
    let shrink = exp(m - peak);
    m = peak;
    let e = transpose(mat4x4f(exp(s0 - m.x), exp(s1 - m.y), exp(s2 - m.z), exp(s3 - m.w))); // now a column is a key's four rows
    l = l * shrink + (e[0] + e[1]) + (e[2] + e[3]);
    p[wide * 9 + high] = e[0];
    p[wide * 9 + 72 + high] = e[1];
    p[wide * 9 + 144 + high] = e[2];
    p[wide * 9 + 216 + high] = e[3];

    let at = Walk(key_head, start, keys, wide, high, shrink);
    fold(block, at, 0, &o0);
    if (chunks > 1) { fold(block, at, 1, &o1); }
    if (chunks > 2) { fold(block, at, 2, &o2); }
    if (chunks > 3) { fold(block, at, 3, &o3); }
    if (chunks > 4) { fold(block, at, 4, &o4); }
    if (chunks > 5) { fold(block, at, 5, &o5); }
    if (chunks > 6) { fold(block, at, 6, &o6); }
    if (chunks > 7) { fold(block, at, 7, &o7); }
  }

  r[high * 9 + wide] = l;
  workgroupBarrier();
  var sum = vec4f();
  for (var i = 0u; i < 8; i++) { sum += r[high * 9 + i]; }

  let to = (block.query + 4 * high) * shape.y_row + head * shape.y_stride + shape.y_offset;
  let rows = block.rows - min(block.rows, 4 * high);
  store(to, rows, 4 * wide, sum, o0);
  if (chunks > 1) { store(to, rows, 32 + 4 * wide, sum, o1); }
  if (chunks > 2) { store(to, rows, 64 + 4 * wide, sum, o2); }
  if (chunks > 3) { store(to, rows, 96 + 4 * wide, sum, o3); }
  if (chunks > 4) { store(to, rows, 128 + 4 * wide, sum, o4); }
  if (chunks > 5) { store(to, rows, 160 + 4 * wide, sum, o5); }
  if (chunks > 6) { store(to, rows, 192 + 4 * wide, sum, o6); }
  if (chunks > 7) { store(to, rows, 224 + 4 * wide, sum, o7); }
}

// Where a lane stands in the walk along the keys.
struct Walk {
  key_head: u32,
  start: u32,
  keys: u32,
  wide: u32,
  high: u32,
  shrink: vec4f, // exp(old m - new m) of the four rows
}

// Four query rows from `row` on; rows past the end are read as the last one and never stored.
fn query_rows(block: Block, row: u32) -> vec4u {
  return vec4u(block.query) + min(vec4u(row) + vec4u(0, 1, 2, 3), vec4u(block.rows - 1));
}

// The rows of keys n, n + 8, n + 16 and n + 24; keys past the end are read as the last one and masked.
fn key_rows(block: Block, keys: u32, n: u32) -> vec4u {
  let key = min(vec4u(n) + vec4u(0, 8, 16, 24), vec4u(keys - 1));
  return select(vec4u(block.own - block.lead), vec4u(block.prefix), key < vec4u(block.lead)) + key;
}

// s += 16 steps of the width of queries · keys.
fn multiply(wide: u32, high: u32, s: ptr<function, mat4x4f>) {
  var sums = *s;
  for (var i = 0u; i < 144; i += 36) {
    outer(&sums, a[i + high], b[i + wide]);
    outer(&sums, a[i + 9 + high], b[i + 9 + wide]);
    outer(&sums, a[i + 18 + high], b[i + 18 + wide]);
    outer(&sums, a[i + 27 + high], b[i + 27 + wide]);
  }
  *s = sums;
}

// s += u vᵀ, a column of s for each element of u.
fn outer(s: ptr<function, mat4x4f>, u: vec4f, v: vec4f) {
  (*s)[0] = fma(vec4f(u.x), v, (*s)[0]);
  (*s)[1] = fma(vec4f(u.y), v, (*s)[1]);
  (*s)[2] = fma(vec4f(u.z), v, (*s)[2]);
  (*s)[3] = fma(vec4f(u.w), v, (*s)[3]);
}

// o = shrink · o + p · v for value columns 32 · chunk to 32 · chunk + 31; columns past the width hold anything and are never stored.
fn fold(block: Block, at: Walk, chunk: u32, o: ptr<function, mat4x4f>) {
  let column = 32 * chunk + 4 * at.wide;
  for (var j = at.high; j < 32; j += 8) {
    let source = key_rows(block, at.keys, at.start + j).x * shape.v.row + at.key_head * shape.v.stride + shape.v.offset + column;
    w[j * 9 + at.wide] = vec4f(v[source], v[source + 1], v[source + 2], v[source + 3]);
  }
  workgroupBarrier();
  var sums = *o;
  sums[0] *= at.shrink.x;
  sums[1] *= at.shrink.y;
  sums[2] *= at.shrink.z;
  sums[3] *= at.shrink.w;
  for (var i = 0u; i < 288; i += 36) {
    outer(&sums, p[i + at.high], w[i + at.wide]);
    outer(&sums, p[i + 9 + at.high], w[i + 9 + at.wide]);
    outer(&sums, p[i + 18 + at.high], w[i + 18 + at.wide]);
    outer(&sums, p[i + 27 + at.high], w[i + 27 + at.wide]);
  }
  *o = sums;
  workgroupBarrier();
}

fn largest(s: vec4f) -> f32 {
  return max(max(s.x, s.y), max(s.z, s.w));
}

fn store(to: u32, rows: u32, column: u32, sum: vec4f, o: mat4x4f) {
  if (rows > 0) { put(to, column, o[0] / sum.x); }
  if (rows > 1) { put(to + shape.y_row, column, o[1] / sum.y); }
  if (rows > 2) { put(to + 2 * shape.y_row, column, o[2] / sum.z); }
  if (rows > 3) { put(to + 3 * shape.y_row, column, o[3] / sum.w); }
}

fn put(to: u32, column: u32, values: vec4f) {
  if (column < shape.v.width) { y[to + column] = values.x; }
  if (column + 1 < shape.v.width) { y[to + column + 1] = values.y; }
  if (column + 2 < shape.v.width) { y[to + column + 2] = values.z; }
  if (column + 3 < shape.v.width) { y[to + column + 3] = values.w; }
}
