// y[r, n] = Σ_k x[r, k] · weight[n, k] + bias[n] for few rows, where the time goes into reading the weight.
//
// A workgroup of 64 makes 4 rows x 4 outputs: its invocations share out k in fours, each keeps 16 sums, and a tree in workgroup memory adds them up.
// Neighbours read neighbouring vectors, so a weight is read once a group of four rows, at the speed of the memory.
//
// 2 · rows · outputs · columns FLOPs. Workgroup memory 4 KiB. Any sizes.

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

var<workgroup> partial: array<mat4x4f, 64>; // a column holds one row's sums for the four outputs

@compute @workgroup_size(64)
fn linear_few(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let down = (shape.rows + 3) / 4;
  let across = (shape.outputs + 3) / 4;
  let tile = group.x + group.y * groups.x;
  if (tile >= down * across) { return; }
  let row = tile % down * 4;
  let column = tile / down * 4;
  let xs = min(vec4u(row) + vec4u(0, 1, 2, 3), vec4u(shape.rows - 1)) * shape.columns;
  let ws = min(vec4u(column) + vec4u(0, 1, 2, 3), vec4u(shape.outputs - 1)) * shape.columns;

  var sums = mat4x4f();
  for (var k = 4 * lane; k < shape.columns; k += 256) {
    let w = mat4x4f(clip(w_at(ws.x + k), k), clip(w_at(ws.y + k), k), clip(w_at(ws.z + k), k), clip(w_at(ws.w + k), k));
    let v = mat4x4f(clip(x_at(xs.x + k), k), clip(x_at(xs.y + k), k), clip(x_at(xs.z + k), k), clip(x_at(xs.w + k), k));
    sums += transpose(w) * v;
  }
  partial[lane] = sums;
  for (var step = 32u; step > 0; step /= 2) {
    workgroupBarrier();
    if (lane < step) { partial[lane] += partial[lane + step]; }
  }
  workgroupBarrier();

  let r = row + lane / 4;
  let n = column + lane % 4;
  if (lane < 16 && r < shape.rows && n < shape.outputs) {
    let j = shape.first + n;
    var value = partial[0][lane / 4][lane % 4];
    if (shape.biased == 1) { value += bias[j]; }
    y[r * shape.stride + j] = value;
  }
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
