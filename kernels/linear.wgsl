// y[r, n] = Σ_k x[r, k] · weight[n, k] + bias[n]
//
// A workgroup of 64 makes a tile of 64 rows x 64 outputs, each invocation 8 x 8 of it in registers. It walks along k in steps of 16: an invocation
// loads a block of 4 rows x 4 k of x and one of the weight (16-byte loads, four neighbours read 64 consecutive bytes of a row), turns both in registers
// and keeps them in workgroup memory with k outermost, so that one step of k is 4 reads of 16 bytes for 64 multiply-adds. An invocation's eight rows are
// 4 · high to 4 · high + 3 and the four 32 further on; they lie side by side in workgroup memory, where one index finds both. Its outputs likewise.
//
// Reads x outputs / 64 times and the weight rows / 64 times; bands of 16 tiles of rows follow each other along n, so that most of it comes from cache.
// 2 · rows · outputs · columns FLOPs. Workgroup memory 9 KiB. Any sizes; rows that are no multiple of four elements take the slow branch of the loads.

struct Shape {
  rows: u32,
  columns: u32,
  outputs: u32, // rows of the weight in this dispatch
  stride: u32,  // elements from one row of y to the next
  first: u32,   // column of y, and element of the bias, that output 0 goes to
  biased: u32,
}

override format: u32 = 0; // of the weight: 0 F32, 1 BF16, 2 F16

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;       // [rows, columns]
@group(0) @binding(2) var<storage, read> weight: array<vec2u>;  // [outputs, columns], as stored
@group(0) @binding(3) var<storage, read> bias: array<f32>;      // [first + outputs] where biased
@group(0) @binding(4) var<storage, read_write> y: array<f32>;   // [rows, stride]

// Four rows (or outputs) and the four that lie 32 further on.
struct Fours {
  near: vec4f,
  far: vec4f,
}

var<workgroup> a: array<Fours, 144>; // [16 k, 9]: x
var<workgroup> b: array<Fours, 144>; // [16 k, 9]: the weight

@compute @workgroup_size(64)
fn linear(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let down = (shape.rows + 63) / 64;
  let across = (shape.outputs + 63) / 64;
  let tile = group.x + group.y * groups.x;
  if (tile >= down * across) { return; }
  let top = tile / (16 * across) * 16;
  let band = min(down - top, 16u);
  let within = tile - top * across;
  let row = (top + within % band) * 64;
  let column = within / band * 64;

  // What this invocation loads: 4 rows from 4 · block, 4 k from 4 · quad. Rows past the end are read as the last one and never stored.
  let quad = lane % 4;
  let block = lane / 4;
  let xs = min(vec4u(row + 4 * block) + vec4u(0, 1, 2, 3), vec4u(shape.rows - 1)) * shape.columns;
  let ws = min(vec4u(column + 4 * block) + vec4u(0, 1, 2, 3), vec4u(shape.outputs - 1)) * shape.columns;
  let to = 36 * quad + block % 8;

  // What it computes: a column of each matrix is one row's four sums.
  let wide = lane % 8;
  let high = lane / 8;
  var s00 = mat4x4f(); var s01 = mat4x4f(); // rows 4 · high and on; outputs 4 · wide and 4 · wide + 32 and on
  var s10 = mat4x4f(); var s11 = mat4x4f(); // rows 32 + 4 · high and on

  let tall = shape.rows - row > 32; // else the lower half of the tile is empty
  for (var start = 0u; start < shape.columns; start += 16) {
    let k = start + 4 * quad;
    let p = transpose(mat4x4f(clip(x_at(xs.x + k), k), clip(x_at(xs.y + k), k), clip(x_at(xs.z + k), k), clip(x_at(xs.w + k), k)));
    let q = transpose(mat4x4f(clip(w_at(ws.x + k), k), clip(w_at(ws.y + k), k), clip(w_at(ws.z + k), k), clip(w_at(ws.w + k), k)));
    if (block < 8) {
      a[to].near = p[0]; a[to + 9].near = p[1]; a[to + 18].near = p[2]; a[to + 27].near = p[3];
      b[to].near = q[0]; b[to + 9].near = q[1]; b[to + 18].near = q[2]; b[to + 27].near = q[3];
    } else {
      a[to].far = p[0]; a[to + 9].far = p[1]; a[to + 18].far = p[2]; a[to + 27].far = p[3];
      b[to].far = q[0]; b[to + 9].far = q[1]; b[to + 18].far = q[2]; b[to + 27].far = q[3];
    }
    workgroupBarrier();
    if (tall) {
      for (var i = 0u; i < 144; i += 36) { // four steps of k a round: a loop costs as much as a dozen multiply-adds
        let u0 = a[i + high]; let v0 = b[i + wide];
        outer(&s00, u0.near, v0.near); outer(&s01, u0.near, v0.far); outer(&s10, u0.far, v0.near); outer(&s11, u0.far, v0.far);
        let u1 = a[i + 9 + high]; let v1 = b[i + 9 + wide];
        outer(&s00, u1.near, v1.near); outer(&s01, u1.near, v1.far); outer(&s10, u1.far, v1.near); outer(&s11, u1.far, v1.far);
        let u2 = a[i + 18 + high]; let v2 = b[i + 18 + wide];
        outer(&s00, u2.near, v2.near); outer(&s01, u2.near, v2.far); outer(&s10, u2.far, v2.near); outer(&s11, u2.far, v2.far);
        let u3 = a[i + 27 + high]; let v3 = b[i + 27 + wide];
        outer(&s00, u3.near, v3.near); outer(&s01, u3.near, v3.far); outer(&s10, u3.far, v3.near); outer(&s11, u3.far, v3.far);
      }
    } else {
      for (var i = 0u; i < 144; i += 36) {
        let u0 = a[i + high].near; let v0 = b[i + wide];
        outer(&s00, u0, v0.near); outer(&s01, u0, v0.far);
        let u1 = a[i + 9 + high].near; let v1 = b[i + 9 + wide];
        outer(&s00, u1, v1.near); outer(&s01, u1, v1.far);
        let u2 = a[i + 18 + high].near; let v2 = b[i + 18 + wide];
        outer(&s00, u2, v2.near); outer(&s01, u2, v2.far);
        let u3 = a[i + 27 + high].near; let v3 = b[i + 27 + wide];
        outer(&s00, u3, v3.near); outer(&s01, u3, v3.far);
      }
    }
    workgroupBarrier();
  }

  let i = row + 4 * high;
  let j = column + 4 * wide;
  let l = bias_at(j);
  let r = bias_at(j + 32);
  store(i, j, s00, l); store(i, j + 32, s01, r);
  store(i + 32, j, s10, l); store(i + 32, j + 32, s11, r);
}

// s += u vᵀ, a column of s for each element of u.
fn outer(s: ptr<function, mat4x4f>, u: vec4f, v: vec4f) {
  (*s)[0] = fma(vec4f(u.x), v, (*s)[0]);
  (*s)[1] = fma(vec4f(u.y), v, (*s)[1]);
  (*s)[2] = fma(vec4f(u.z), v, (*s)[2]);
  (*s)[3] = fma(vec4f(u.w), v, (*s)[3]);
}

fn store(r: u32, n: u32, s: mat4x4f, added: vec4f) {
  put(r, n, s[0] + added);
  put(r + 1, n, s[1] + added);
  put(r + 2, n, s[2] + added);
  put(r + 3, n, s[3] + added);
}

fn put(r: u32, n: u32, sums: vec4f) {
  if (r >= shape.rows) { return; }
  let at = r * shape.stride + shape.first + n;
  if (n < shape.outputs) { y[at] = sums.x; }
  if (n + 1 < shape.outputs) { y[at + 1] = sums.y; }
  if (n + 2 < shape.outputs) { y[at + 2] = sums.z; }
  if (n + 3 < shape.outputs) { y[at + 3] = sums.w; }
}

// What the bias adds to outputs n to n + 3.
fn bias_at(n: u32) -> vec4f {
  if (shape.biased == 0) { return vec4f(); }
  let j = shape.first + n;
  return vec4f(bias[j], bias[j + 1], bias[j + 2], bias[j + 3]);
}

// Zero from the end of the row on, where another row or nothing is.
fn clip(v: vec4f, k: u32) -> vec4f {
  if (k + 4 <= shape.columns) { return v; }
  return select(vec4f(), v, vec4u(k) + vec4u(0, 1, 2, 3) < vec4u(shape.columns));
}

// Four elements of x from element e on.
fn x_at(e: u32) -> vec4f {
  let lo = x[e / 4];
  if (e % 4 == 0) { return lo; }
  let hi = x[e / 4 + 1];
  if (e % 4 == 1) { return vec4f(lo.yzw, hi.x); }
  if (e % 4 == 2) { return vec4f(lo.zw, hi.xy); }
  return vec4f(lo.w, hi.xyz);
}

// Four elements of the weight from element e on, widened.
fn w_at(e: u32) -> vec4f {
  if (format == 0) {
    let i = e / 2;
    if (e % 2 == 0) { return bitcast<vec4f>(vec4u(weight[i], weight[i + 1])); }
    return bitcast<vec4f>(vec4u(weight[i].y, weight[i + 1], weight[i + 2].x));
  }
  var w = weight[e / 4];
  if (e % 4 != 0) {
    let next = weight[e / 4 + 1];
    if (e % 4 >= 2) { w = vec2u(w.y, next.x); }
    let after = select(next.x, next.y, e % 4 == 3);
    if (e % 2 == 1) { w = vec2u((w.x >> 16) | (w.y << 16), (w.y >> 16) | (after << 16)); }
  }
  if (format == 1) { return bitcast<vec4f>(vec4u(w.x << 16, w.x & 0xffff0000, w.y << 16, w.y & 0xffff0000)); }
  return vec4f(unpack2x16float(w.x), unpack2x16float(w.y));
}
