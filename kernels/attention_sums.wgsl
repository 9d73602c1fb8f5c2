// What attention_vjp.wgsl needs to know of each query row t and head h, over the keys j up to t in its segment, with scores s = scale · q[t] · k[j]:
//
//   sums[t, h] = (m, 1 / Σ_j exp(s_j - m), Σ_j p_j · (dy[t] · v[j])), m the largest score, p the softmax
//
// A workgroup of 64 takes 32 query rows of one segment and one head, and walks along the keys in blocks of 32; scores and slopes dy · v exist for one block
// only, 4 x 4 of each a lane, made by steps of 16 along the width as in attention.wgsl. Each lane keeps a maximum and two sums of its own for its four
// rows, over the keys it sees; the eight lanes of a row put theirs together at the end.
//
// Queries and keys, dy and values lie head by head in rows of whole vectors, a multiple of four, with zeros at the end (pack_heads.wgsl).
// 2 · (width + value width) FLOPs a pair. Workgroup memory 8 KiB.

struct Shape {
  heads: u32,
  key_heads: u32,
  width: u32,       // vectors of four of a head's queries and keys
  value_width: u32, // and of its values
  scale: f32,
  first: u32,       // block of the table to begin with
  blocks: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;           // [tokens, heads, width]
@group(0) @binding(2) var<storage, read> k: array<vec4f>;           // [tokens, key heads, width]
@group(0) @binding(3) var<storage, read> v: array<vec4f>;           // [tokens, key heads, value width]
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;          // [tokens, heads, value width]
@group(0) @binding(5) var<storage, read> table: array<vec4u>;       // a block's first row, its segment's first and the row after its last
@group(0) @binding(6) var<storage, read_write> sums: array<vec4f>;  // [tokens, heads]

var<workgroup> a: array<vec4f, 144>; // [16 of the width, 9]: query rows n, n + 8, n + 16, n + 24 a vector
var<workgroup> b: array<vec4f, 144>; // [16 of the width, 9]: keys, likewise
var<workgroup> r: array<mat3x4f, 72>; // [8, 9]: what the lanes of four rows found

const LOWEST = -3.0e38;

@compute @workgroup_size(64)
fn attention_sums(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.blocks * shape.heads) { return; }
  let block = table[shape.first + index % shape.blocks];
  let head = index / shape.blocks;
  let key_head = head * shape.key_heads / shape.heads;
  let wide = lane % 8;
  let high = lane / 8;
  let row = vec4u(block.x + high) + vec4u(0, 8, 16, 24);

  var m = vec4f(LOWEST);
  var l = vec4f();
  var along = vec4f();
  for (var start = block.y; start <= block.x; start += 32) {
    var s = mat4x4f(); // a column is a row's four keys
    for (var d = 0u; d < shape.width; d += 4) {
      let rows = min(vec4u(lane % 32 / 4) + vec4u(0, 8, 16, 24) + select(start, block.x, lane < 32), vec4u(block.z - 1));
      if (lane < 32) {
        let i = (rows * shape.heads + head) * shape.width + d + lane % 4;
        turn_a(lane, mat4x4f(q[i.x], q[i.y], q[i.z], q[i.w]));
      } else {
        let i = (rows * shape.key_heads + key_head) * shape.width + d + lane % 4;
        turn_b(lane, mat4x4f(k[i.x], k[i.y], k[i.z], k[i.w]));
      }
      workgroupBarrier();
      multiply(wide, high, &s);
      workgroupBarrier();
    }
    var t = mat4x4f();
    for (var d = 0u; d < shape.value_width; d += 4) {
      let rows = min(vec4u(lane % 32 / 4) + vec4u(0, 8, 16, 24) + select(start, block.x, lane < 32), vec4u(block.z - 1));
      if (lane < 32) {
        let i = (rows * shape.heads + head) * shape.value_width + d + lane % 4;
        turn_a(lane, mat4x4f(dy[i.x], dy[i.y], dy[i.z], dy[i.w]));
      } else {
        let i = (rows * shape.key_heads + key_head) * shape.value_width + d + lane % 4;
        turn_b(lane, mat4x4f(v[i.x], v[i.y], v[i.z], v[i.w]));
      }
      workgroupBarrier();
      multiply(wide, high, &t);
      workgroupBarrier();
    }

    let key = vec4u(start + wide) + vec4u(0, 8, 16, 24);
    let s0 = select(vec4f(LOWEST), s[0] * shape.scale, key <= vec4u(row.x));
    let s1 = select(vec4f(LOWEST), s[1] * shape.scale, key <= vec4u(row.y));
    let s2 = select(vec4f(LOWEST), s[2] * shape.scale, key <= vec4u(row.z));
    let s3 = select(vec4f(LOWEST), s[3] * shape.scale, key <= vec4u(row.w));
    let peak = max(m, vec4f(largest(s0), largest(s1), largest(s2), largest(s3)));
    let shrink = exp(m - peak);
    m = peak;
    let e0 = select(vec4f(), exp(s0 - m.x), key <= vec4u(row.x));
    let e1 = select(vec4f(), exp(s1 - m.y), key <= vec4u(row.y));
    let e2 = select(vec4f(), exp(s2 - m.z), key <= vec4u(row.z));
    let e3 = select(vec4f(), exp(s3 - m.w), key <= vec4u(row.w));
    l = l * shrink + vec4f(total(e0), total(e1), total(e2), total(e3));
    along = along * shrink + vec4f(dot(e0, t[0]), dot(e1, t[1]), dot(e2, t[2]), dot(e3, t[3]));
  }

  r[high * 9 + wide] = mat3x4f(m, l, along);
  workgroupBarrier();
  if (lane >= 32 || block.x + lane >= block.z) { return; }
  let begin = lane % 8 * 9;
  let which = lane / 8;
  var peak = LOWEST;
  for (var i = 0u; i < 8; i++) { peak = max(peak, r[begin + i][0][which]); }
  var sum = 0.0;
  var slope = 0.0;
  for (var i = 0u; i < 8; i++) {
    let factor = exp(r[begin + i][0][which] - peak);
    sum += factor * r[begin + i][1][which];
    slope += factor * r[begin + i][2][which];
  }
  sums[(block.x + lane) * shape.heads + head] = vec4f(peak, 1 / sum, slope / sum, 0);
}

// Four rows by four steps of the width, turned: a vector holds one step of four rows.
fn turn_a(lane: u32, rows: mat4x4f) {
  let p = transpose(rows);
  let to = lane % 4 * 36 + lane / 4;
  a[to] = p[0]; a[to + 9] = p[1]; a[to + 18] = p[2]; a[to + 27] = p[3];
}

fn turn_b(lane: u32, rows: mat4x4f) {
  let p = transpose(rows);
  let to = lane % 4 * 36 + lane / 4 - 8;
  b[to] = p[0]; b[to + 9] = p[1]; b[to + 18] = p[2]; b[to + 27] = p[3];
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

fn largest(s: vec4f) -> f32 {
  return max(max(s.x, s.y), max(s.z, s.w));
}

fn total(e: vec4f) -> f32 {
  return (e.x + e.y) + (e.z + e.w);
}
