// dw_e[n, k] = Σ_p dy[p, n] · x[p, k] over the positions p of expert e's run, or over all rows where there is one matrix
//
// A workgroup of 64 makes a tile of 64 x 64 of one matrix as linear.wgsl does: 8 x 8 sums an invocation, steps of 16 positions through workgroup memory.
// Both sides lie the right way round: 16 neighbours read 64 consecutive elements of a row. With `listed`, one dispatch serves matrices, or parts of them by
// rows, of any sizes: workgroups past the end of a small one leave at once, an expert that served nobody gets zeros. With `added`, sums are added to what
// is there: rows beyond one binding come in parts.
//
// 2 · positions · rows · columns FLOPs. Reads dy columns / 64 times and x rows / 64 times, within a run mostly from cache. Workgroup memory 9 KiB.

struct Shape {
  rows: u32,      // positions, where there is one matrix
  dy_stride: u32, // elements from one row of dy to the next
  x_stride: u32,
  down: u32,      // tiles of 64 rows, and of 64 columns, that the largest part needs
  across: u32,
  parts: u32,
  added: u32,
  first: u32,     // the matrix where there is one: column of dy of its first row here, rows here, columns
  count: u32,
  columns: u32,
}

// Rows of an expert's matrix.
struct Part {
  expert: u32,
  start: u32,     // its first element in dw
  first: u32,     // column of dy that its first row belongs to
  count: u32,     // rows
  columns: u32,
}

override listed: bool = false;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> runs: array<vec2u>;    // [experts] where listed: first position, positions
@group(0) @binding(2) var<storage, read> parts: array<Part>;    // [parts] where listed
@group(0) @binding(3) var<storage, read> dy: array<vec4f>;      // [positions, dy_stride]
@group(0) @binding(4) var<storage, read> x: array<vec4f>;       // [positions, x_stride]
@group(0) @binding(5) var<storage, read_write> dw: array<f32>;

// Four rows (or columns) and the four that lie 32 further on.
struct Fours {
  near: vec4f,
  far: vec4f,
}

var<workgroup> a: array<Fours, 144>; // [16 positions, 9]: dy
var<workgroup> b: array<Fours, 144>; // [16 positions, 9]: x

@compute @workgroup_size(64)
fn outer(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let each = shape.down * shape.across;
  let index = group.x + group.y * groups.x;
  if (index >= shape.parts * each) { return; }
  var part: Part;
  var run: vec2u;
  if (listed) {
    part = parts[index / each];
    run = runs[part.expert];
  } else {
    part = Part(0, 0, shape.first, shape.count, shape.columns);
    run = vec2u(0, shape.rows);
  }
  let row = index % each / shape.across * 64;
  let column = index % shape.across * 64;
  if (row >= part.count || column >= part.columns || (run.y == 0 && shape.added == 1)) { return; }

  // Rows and columns past the end are read from where others lie and never stored; positions past the end are zero in dy.
  let side = lane % 16;
  let down = lane / 16;
  let ys = part.first + row + 4 * side;
  let xs = column + 4 * side;
  let wide = lane % 8;
  let high = lane / 8;
  var s00 = mat4x4f(); var s01 = mat4x4f();
  var s10 = mat4x4f(); var s11 = mat4x4f();
  let tall = part.count - row > 32; // else the lower half of the tile is empty
  for (var start = 0u; start < run.y; start += 16) {
    for (var i = down; i < 16; i += 4) {
      let p = run.x + min(start + i, run.y - 1);
      let u = select(vec4f(), dy_at(p * shape.dy_stride + ys), start + i < run.y);
      let v = x_at(p * shape.x_stride + xs);
      if (side < 8) {
        a[i * 9 + side].near = u;
        b[i * 9 + side].near = v;
      } else {
        a[i * 9 + side - 8].far = u;
        b[i * 9 + side - 8].far = v;
      }
    }
    workgroupBarrier();
    if (tall) {
      for (var i = 0u; i < 144; i += 18) {
        let u0 = a[i + high]; let v0 = b[i + wide];
        add(&s00, u0.near, v0.near); add(&s01, u0.near, v0.far); add(&s10, u0.far, v0.near); add(&s11, u0.far, v0.far);
        let u1 = a[i + 9 + high]; let v1 = b[i + 9 + wide];
        add(&s00, u1.near, v1.near); add(&s01, u1.near, v1.far); add(&s10, u1.far, v1.near); add(&s11, u1.far, v1.far);
      }
    } else {
      for (var i = 0u; i < 144; i += 18) {
        let u0 = a[i + high].near; let v0 = b[i + wide];
        add(&s00, u0, v0.near); add(&s01, u0, v0.far);
        let u1 = a[i + 9 + high].near; let v1 = b[i + 9 + wide];
        add(&s00, u1, v1.near); add(&s01, u1, v1.far);
      }
    }
    workgroupBarrier();
  }

  let i = row + 4 * high;
  let j = column + 4 * wide;
  store(part, i, j, s00); store(part, i, j + 32, s01);
  store(part, i + 32, j, s10); store(part, i + 32, j + 32, s11);
}

// s += u vᵀ, a column of s for each element of u.
fn add(s: ptr<function, mat4x4f>, u: vec4f, v: vec4f) {
  (*s)[0] = fma(vec4f(u.x), v, (*s)[0]);
  (*s)[1] = fma(vec4f(u.y), v, (*s)[1]);
  (*s)[2] = fma(vec4f(u.z), v, (*s)[2]);
  (*s)[3] = fma(vec4f(u.w), v, (*s)[3]);
}

fn store(part: Part, n: u32, k: u32, s: mat4x4f) {
  row_of(part, n, k, s[0]);
  row_of(part, n + 1, k, s[1]);
  row_of(part, n + 2, k, s[2]);
  row_of(part, n + 3, k, s[3]);
}

fn row_of(part: Part, n: u32, k: u32, sums: vec4f) {
  if (n >= part.count) { return; }
  let at = part.start + n * part.columns + k;
  if (k < part.columns) { put(at, sums.x); }
  if (k + 1 < part.columns) { put(at + 1, sums.y); }
  if (k + 2 < part.columns) { put(at + 2, sums.z); }
  if (k + 3 < part.columns) { put(at + 3, sums.w); }
}

fn put(at: u32, sum: f32) {
  if (shape.added == 1) { dw[at] += sum; } else { dw[at] = sum; }
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

// Four elements of x from element e on.
fn x_at(e: u32) -> vec4f {
  let lo = x[e / 4];
  if (e % 4 == 0) { return lo; }
  let hi = x[e / 4 + 1];
  if (e % 4 == 1) { return vec4f(lo.yzw, hi.x); }
  if (e % 4 == 2) { return vec4f(lo.zw, hi.xy); }
  return vec4f(lo.w, hi.xyz);
}
