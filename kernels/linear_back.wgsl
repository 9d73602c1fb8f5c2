// dx[p, k] = Σ_n dy[p, first + n] · weight_e[n, k]: back through linear.wgsl, and through expert_product.wgsl over positions sorted by expert
//
// A workgroup of 64 makes a tile of 64 positions x 64 columns as linear.wgsl does: 8 x 8 sums an invocation, steps of 16 along n through workgroup memory,
// n outermost. dy is turned in registers on its way there; the weight lies the right way round already: 16 neighbours read 64 consecutive elements of one
// of its rows. With `listed`, a tile's expert says which matrix; tiles past the list and experts without a matrix here leave at once. Without, there is one
// matrix, and bands of 16 tiles of rows follow each other along k, so that most of it comes from cache.
//
// A matrix may come in parts, by rows: all but the part with row 0 add to what is there, and `added` makes that one add too. With `filled`, what of dx no
// matrix of this dispatch reaches becomes zero: rows without an expert here, and columns beyond a small one.
//
// 2 · positions · outputs · columns FLOPs. Reads dy columns / 64 times and a weight once for 64 positions. Workgroup memory 9 KiB. Any sizes.

struct Shape {
  rows: u32,      // positions, where tiles are not listed
  dy_stride: u32, // elements from one row of dy to the next
  dx_stride: u32,
  across: u32,    // tiles of 64 columns that the widest matrix needs
  tiles: u32,
  added: u32,
  columns: u32,   // the matrix where there is one
  outputs: u32,
  format: u32,
  first: u32,
  filled: u32,
}

struct Matrix {
  start: u32,     // its first element in the buffer, counted in elements of its format
  columns: u32,
  outputs: u32,   // rows of it here, 0 where the expert has none
  format: u32,    // 0 F32, 1 BF16, 2 F16
  first: u32,     // column of dy that its first row here belongs to
}

override listed: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> tiles: array<vec4u>;      // [tiles] where listed: expert, first position, positions
@group(0) @binding(2) var<storage, read> matrices: array<Matrix>;  // [experts + 1] where listed
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;         // [positions, dy_stride]
@group(0) @binding(4) var<storage, read> weight: array<vec2u>;     // the matrices, as stored
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;     // [positions, dx_stride]

// Four rows (or columns) and the four that lie 32 further on.
struct Fours {
  near: vec4f,
  far: vec4f,
}

var<workgroup> a: array<Fours, 144>; // [16 n, 9]: dy
var<workgroup> b: array<Fours, 144>; // [16 n, 9]: the weight

@compute @workgroup_size(64)
fn linear_back(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = group.x + group.y * groups.x;
  if (index >= shape.tiles * shape.across) { return; }
  var tile: vec4u;
  var matrix: Matrix;
  var column: u32;
  if (listed) {
    tile = tiles[index / shape.across];
    matrix = matrices[tile.x];
    column = index % shape.across * 64;
  } else {
    let top = index / (16 * shape.across) * 16;
    let band = min(shape.tiles - top, 16u);
    let within = index - top * shape.across;
    let row = (top + within % band) * 64;
    tile = vec4u(0, row, min(shape.rows - row, 64u), 0);
    matrix = Matrix(0, shape.columns, shape.outputs, shape.format, shape.first);
    column = within / band * 64;
  }
  let reach = select(matrix.columns, shape.dx_stride, shape.filled == 1); // columns that are written
  if (tile.z == 0 || column >= reach) { return; }
  let end = select(matrix.outputs, 0, column >= matrix.columns);

  // Positions past the end are read as the last one and never stored; so are columns past the end of a row.
  let quad = lane % 4;
  let block = lane / 4;
  let ys = (vec4u(tile.y) + min(vec4u(4 * block) + vec4u(0, 1, 2, 3), vec4u(tile.z - 1))) * shape.dy_stride + matrix.first;
  let to = 36 * quad + block % 8;
  let across = lane % 16;
  let down = lane / 16;
  let ws = matrix.start + column + 4 * across;

  let wide = lane % 8;
  let high = lane / 8;
  var s00 = mat4x4f(); var s01 = mat4x4f();
  var s10 = mat4x4f(); var s11 = mat4x4f();
  let tall = tile.z > 32; // else the lower half of the tile is empty
  for (var start = 0u; start < end; start += 16) {
    let n = start + 4 * quad;
    let p = transpose(mat4x4f(clip(dy_at(ys.x + n), n, end), clip(dy_at(ys.y + n), n, end), clip(dy_at(ys.z + n), n, end), clip(dy_at(ys.w + n), n, end)));
    if (block < 8) {
      a[to].near = p[0]; a[to + 9].near = p[1]; a[to + 18].near = p[2]; a[to + 27].near = p[3];
    } else {
      a[to].far = p[0]; a[to + 9].far = p[1]; a[to + 18].far = p[2]; a[to + 27].far = p[3];
    }
    for (var i = down; i < 16; i += 4) {
      // A row past the end meets zeros of dy.
      let w = w_at(ws + min(start + i, end - 1) * matrix.columns, matrix.format);
      if (across < 8) { b[i * 9 + across].near = w; } else { b[i * 9 + across - 8].far = w; }
    }
    workgroupBarrier();
    if (tall) {
      for (var i = 0u; i < 144; i += 18) {
        let u0 = a[i + high]; let v0 = b[i + wide];
        outer(&s00, u0.near, v0.near); outer(&s01, u0.near, v0.far); outer(&s10, u0.far, v0.near); outer(&s11, u0.far, v0.far);
        let u1 = a[i + 9 + high]; let v1 = b[i + 9 + wide];
        outer(&s00, u1.near, v1.near); outer(&s01, u1.near, v1.far); outer(&s10, u1.far, v1.near); outer(&s11, u1.far, v1.far);
      }
    } else {
      for (var i = 0u; i < 144; i += 18) {
        let u0 = a[i + high].near; let v0 = b[i + wide];
        outer(&s00, u0, v0.near); outer(&s01, u0, v0.far);
        let u1 = a[i + 9 + high].near; let v1 = b[i + 9 + wide];
        outer(&s00, u1, v1.near); outer(&s01, u1, v1.far);
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

fn store(tile: vec4u, matrix: Matrix, reach: u32, i: u32, k: u32, s: mat4x4f) {
  row(tile, matrix, reach, i, k, s[0]);
  row(tile, matrix, reach, i + 1, k, s[1]);
  row(tile, matrix, reach, i + 2, k, s[2]);
  row(tile, matrix, reach, i + 3, k, s[3]);
}

fn row(tile: vec4u, matrix: Matrix, reach: u32, i: u32, k: u32, sums: vec4f) {
  if (i >= tile.z) { return; }
  let at = (tile.y + i) * shape.dx_stride + k;
  let adds = matrix.first > 0 || shape.added == 1;
  let values = select(vec4f(), sums, vec4u(k) + vec4u(0, 1, 2, 3) < vec4u(matrix.columns));
  if (k < reach) { put(at, values.x, adds); }
  if (k + 1 < reach) { put(at + 1, values.y, adds); }
  if (k + 2 < reach) { put(at + 2, values.z, adds); }
  if (k + 3 < reach) { put(at + 3, values.w, adds); }
}

fn put(at: u32, sum: f32, adds: bool) {
  if (adds) { dx[at] += sum; } else { dx[at] = sum; }
}

// Zero from the end of the row on, where another row or nothing is.
fn clip(v: vec4f, n: u32, end: u32) -> vec4f {
  if (n + 4 <= end) { return v; }
  return select(vec4f(), v, vec4u(n) + vec4u(0, 1, 2, 3) < vec4u(end));
}

// Four elements of dy from element e on.
fn dy_at(e: u32) -> vec4f {
  let lo = dy[e / 4];
  if (e % 4 == 0) { return lo; }
  let hi = dy[e / 4 + 1];
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
