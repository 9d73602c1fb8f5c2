// g[t, i, j] = Σ_d x[t, i, d] · x[t, j, d]
//
// A workgroup of 64 makes a tile of 32 x 32 inner products of one item, each invocation 4 x 4; tiles below the diagonal are the mirror image of those
// above it and are written with them, so the matrix is exactly symmetric. It walks along d in steps of 32: rows of 9 vectors of four elements of d keep
// reads in workgroup memory off each other's banks. Each step's sums start from zero before they join the total, which keeps long sums accurate.
//
// Items of up to 32 rows are read once: memory-bound, items · rows · width · 4 bytes. 2 · items · rows² · width FLOPs. Workgroup memory 9.2 KiB.

struct Shape {
  items: u32,
  rows: u32,
  width: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [items, rows, width]
@group(0) @binding(2) var<storage, read_write> g: array<f32>;  // [items, rows, rows]

var<workgroup> a: array<vec4f, 288>; // [32 rows, 9]
var<workgroup> b: array<vec4f, 288>;

@compute @workgroup_size(64)
fn gram(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let across = (shape.rows + 31) / 32;
  let pairs = across * (across + 1) / 2;
  let index = group.x + group.y * groups.x;
  if (index >= shape.items * pairs) { return; }
  let item = index / pairs;
  var right = index % pairs; // pairs (top, left) with top <= left, row by row of the upper triangle
  var above = 0u;
  while (right >= across - above) {
    right -= across - above;
    above++;
  }
  let top = 32 * above;
  let left = 32 * (above + right);
  let first = item * shape.rows;

  let wide = lane % 8;
  let high = lane / 8;
  var total = mat4x4f();
  for (var start = 0u; start < shape.width; start += 32) {
    for (var i = high; i < 32; i += 8) {
      a[i * 9 + wide] = load(first, top + i, start + 4 * wide);
      b[i * 9 + wide] = load(first, left + i, start + 4 * wide);
    }
    workgroupBarrier();
    var part = mat4x4f();
    for (var d = 0u; d < 8; d++) {
      let u = mat4x4f(a[high * 9 + d], a[(high + 8) * 9 + d], a[(high + 16) * 9 + d], a[(high + 24) * 9 + d]);
      let v = mat4x4f(b[wide * 9 + d], b[(wide + 8) * 9 + d], b[(wide + 16) * 9 + d], b[(wide + 24) * 9 + d]);
      part += transpose(v) * u; // column i, row j: row high + 8 i of the one, wide + 8 j of the other
    }
    total += part;
    workgroupBarrier();
  }

  store(first, top + high, left + wide, total[0]);
  store(first, top + high + 8, left + wide, total[1]);
  store(first, top + high + 16, left + wide, total[2]);
  store(first, top + high + 24, left + wide, total[3]);
}

fn load(first: u32, row: u32, d: u32) -> vec4f {
  let at = (first + min(row, shape.rows - 1)) * shape.width + d;
  if (d + 4 <= shape.width) { return vec4f(x[at], x[at + 1], x[at + 2], x[at + 3]); }
  return select(vec4f(), vec4f(x[at], x[at + 1], x[at + 2], x[at + 3]), vec4u(d) + vec4u(0, 1, 2, 3) < vec4u(shape.width));
}

fn store(first: u32, i: u32, j: u32, sums: vec4f) {
  if (i >= shape.rows) { return; }
  put(first, i, j, sums.x);
  put(first, i, j + 8, sums.y);
  put(first, i, j + 16, sums.z);
  put(first, i, j + 24, sums.w);
}

fn put(first: u32, i: u32, j: u32, sum: f32) {
  if (j >= shape.rows || j < i) { return; }
  g[(first + i) * shape.rows + j] = sum;
  g[(first + j) * shape.rows + i] = sum;
}
