// One matrix of every expert, applied to the tokens of that expert: y[p, n] = Σ_k x[p, k] · weight_e[n, k] for each position p of expert e's run.
//
// A workgroup takes one tile of 64 positions from the list that expert_order made, looks up its expert and that expert's matrix, and makes 64 outputs as
// linear.wgsl does: 8 x 8 sums an invocation, steps of 16 along k through workgroup memory. One dispatch serves all experts; tiles past the list and
// experts without a matrix in this buffer leave at once. Experts may differ in all sizes and in the type of their elements, which is how dense and
// low-rank ones share a layer: an expert of rank r is one dispatch of rights (r outputs), then one of lefts (r columns).
//
// Rows come from the token of a slot (gathered through order) or from the row of the position; they go to the row of the slot (scattered) or of the
// position. With `biased`, the expert's bias is added to each sum. With `gated`, y ← silu(y) * sum, which joins SwiGLU to the second of its two products.
// With `filled`, what of y no matrix of this dispatch reaches becomes zero: rows without an expert here, and columns beyond the outputs of a small one.
//
// 2 · positions · outputs · columns FLOPs. Each expert's weights are read once for 64 of its positions. Workgroup memory 9.3 KiB. Any sizes.

struct Shape {
  ranks: u32,       // slots a token where rows of x are tokens; 0 where they are positions
  x_stride: u32,    // elements from one row of x to the next
  y_stride: u32,
  across: u32,      // tiles of 64 outputs that the widest matrix needs
  tiles: u32,
  scattered: u32,
  gated: u32,
  bias_stride: u32, // elements from one expert's bias to the next
  filled: u32,
}

override biased: bool = false;

struct Matrix {
  start: u32,       // its first element in the buffer, counted in elements of its format
  columns: u32,
  outputs: u32,     // 0 where the expert has no matrix here
  format: u32,      // 0 F32, 1 BF16, 2 F16
  first: u32,       // column of y that output 0 goes to
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>;      // [tiles]: expert, first position, positions
@group(0) @binding(2) var<storage, read> order: array<u32>;        // [slots]: the slot at each position
@group(0) @binding(3) var<storage, read> matrices: array<Matrix>;  // [experts + 1]: the last, of no elements, is for slots without an expert
@group(0) @binding(4) var<storage, read> x: array<vec4f>;          // [tokens or positions, x_stride]
@group(0) @binding(5) var<storage, read> weight: array<vec2u>;     // the matrices, as stored
@group(0) @binding(6) var<storage, read> bias: array<f32>;         // [experts, bias_stride] where biased
@group(0) @binding(7) var<storage, read_write> y: array<f32>;      // [slots or positions, y_stride]

// Four rows (or outputs) and the four that lie 32 further on.
struct Fours {
  near: vec4f,
  far: vec4f,
}

var<workgroup> a: array<Fours, 144>; // [16 k, 9]: x
var<workgroup> b: array<Fours, 144>; // [16 k, 9]: the weight
var<workgroup> slots: array<u32, 64>; // of the tile

@compute @workgroup_size(64)
fn expert_product(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.tiles * shape.across) { return; }
  let tile = tiles[index / shape.across];
  let matrix = matrices[tile.x];
  let column = index % shape.across * 64;
  let positions = tile.z;
  let reach = select(matrix.outputs, shape.y_stride, shape.filled == 1); // columns that are written
  if (positions == 0 || column >= reach) { return; }
  slots[lane] = order[tile.y + min(lane, positions - 1)];
  workgroupBarrier();

  let quad = lane % 4;
  let block = lane / 4;
  let own = min(vec4u(4 * block) + vec4u(0, 1, 2, 3), vec4u(positions - 1));
  var rows = vec4u(tile.y) + own;
  if (shape.ranks > 0) { rows = vec4u(slots[own.x], slots[own.y], slots[own.z], slots[own.w]) / shape.ranks; }
  let xs = rows * shape.x_stride;
  let ws = min(vec4u(column + 4 * block) + vec4u(0, 1, 2, 3), vec4u(matrix.outputs - 1)) * matrix.columns + matrix.start;
  let to = 36 * quad + block % 8;

  let wide = lane % 8;
  let high = lane / 8;
  var s00 = mat4x4f(); var s01 = mat4x4f();
  var s10 = mat4x4f(); var s11 = mat4x4f();

  let end = select(matrix.columns, 0, column >= matrix.outputs);
  let format = matrix.format;
  let tall = positions > 32; // else the lower half of the tile is empty
  for (var start = 0u; start < end; start += 16) {
    let k = start + 4 * quad;
    let p = transpose(mat4x4f(clip(x_at(xs.x + k), k, end), clip(x_at(xs.y + k), k, end), clip(x_at(xs.z + k), k, end), clip(x_at(xs.w + k), k, end)));
    let q = transpose(mat4x4f(
      clip(w_at(ws.x + k, format), k, end), clip(w_at(ws.y + k, format), k, end),
      clip(w_at(ws.z + k, format), k, end), clip(w_at(ws.w + k, format), k, end),
    ));
    if (block < 8) {
      a[to].near = p[0]; a[to + 9].near = p[1]; a[to + 18].near = p[2]; a[to + 27].near = p[3];
      b[to].near = q[0]; b[to + 9].near = q[1]; b[to + 18].near = q[2]; b[to + 27].near = q[3];
    } else {
      a[to].far = p[0]; a[to + 9].far = p[1]; a[to + 18].far = p[2]; a[to + 27].far = p[3];
      b[to].far = q[0]; b[to + 9].far = q[1]; b[to + 18].far = q[2]; b[to + 27].far = q[3];
    }
    workgroupBarrier();
    if (tall) {
      for (var i = 0u; i < 144; i += 36) {
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

  let j = column + 4 * wide;
  store(tile, matrix, reach, 4 * high, j, s00); store(tile, matrix, reach, 4 * high, j + 32, s01);
  store(tile, matrix, reach, 4 * high + 32, j, s10); store(tile, matrix, reach, 4 * high + 32, j + 32, s11);
}

// s += u vᵀ, a column of s for each element of u.
fn outer(s: ptr<function, mat4x4f>, u: vec4f, v: vec4f) {
  (*s)[0] = fma(vec4f(u.x), v, (*s)[0]);
  (*s)[1] = fma(vec4f(u.y), v, (*s)[1]);
  (*s)[2] = fma(vec4f(u.z), v, (*s)[2]);
  (*s)[3] = fma(vec4f(u.w), v, (*s)[3]);
}

fn store(tile: vec4u, matrix: Matrix, reach: u32, i: u32, n: u32, s: mat4x4f) {
  row(tile, matrix, reach, i, n, s[0]);
  row(tile, matrix, reach, i + 1, n, s[1]);
  row(tile, matrix, reach, i + 2, n, s[2]);
  row(tile, matrix, reach, i + 3, n, s[3]);
}

fn row(tile: vec4u, matrix: Matrix, reach: u32, i: u32, n: u32, sums: vec4f) {
  if (i >= tile.z) { return; }
  let to = select(tile.y + i, slots[i], shape.scattered == 1);
  let at = to * shape.y_stride + matrix.first + n;
  var b = vec4f();
  if (biased && matrix.columns > 0) { b = bias_at(tile.x * shape.bias_stride + matrix.first + n); } // without columns it is no expert
  let values = select(vec4f(), sums + b, vec4u(n) + vec4u(0, 1, 2, 3) < vec4u(matrix.outputs));
  if (n < reach) { put(at, values.x); }
  if (n + 1 < reach) { put(at + 1, values.y); }
  if (n + 2 < reach) { put(at + 2, values.z); }
  if (n + 3 < reach) { put(at + 3, values.w); }
}

// Four elements from element i on; those beyond the last expert's are not used.
fn bias_at(i: u32) -> vec4f {
  let e = min(vec4u(i) + vec4u(0, 1, 2, 3), vec4u(arrayLength(&bias) - 1));
  return vec4f(bias[e.x], bias[e.y], bias[e.z], bias[e.w]);
}

fn put(at: u32, sum: f32) {
  if (shape.gated == 0) {
    y[at] = sum;
  } else {
    // Beyond 87 exp leaves the range of f32, and the sigmoid is 0 or 1 to all digits.
    let gate = y[at];
    y[at] = gate / (1 + exp(-clamp(gate, -87.0, 87.0))) * sum;
  }
}

// Zero from the end of the row on, where another row or nothing is.
fn clip(v: vec4f, k: u32, end: u32) -> vec4f {
  if (k + 4 <= end) { return v; }
  return select(vec4f(), v, vec4u(k) + vec4u(0, 1, 2, 3) < vec4u(end));
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

// Four elements of a weight from element e on, widened.
fn w_at(e: u32, format: u32) -> vec4f {
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
