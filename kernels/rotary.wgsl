// (a, b) ← (a cos θ - b sin θ, b cos θ + a sin θ), θ = position · frequency, for the pairs (a, b) of each head, in place
//
// One invocation a token and pair: it finds the angle once and turns the pair in every head. f32 holds too few digits for θ of far positions, and the
// sine of a GPU is good to 11 bits only. So a frequency comes as a fraction of a full turn, in 44 bits: position times fraction modulo one turn is exact
// integer arithmetic. The turn's upper two bits name a quadrant, the rest is an angle within an eighth of a turn of the axes, where short polynomials
// give sine and cosine to the last bit or two of f32, at any position below 2^20.
//
// Memory-bound, 2 · tokens · heads · pairs · 8 bytes.

struct Shape {
  tokens: u32,
  pairs: u32,
  heads: u32,
  row: u32,      // elements from one token to the next
  stride: u32,   // elements from one head to the next
  offset: u32,   // where in a head the rotated part begins
  apart: u32,    // elements from a to b
  step: u32,     // elements from one a to the next
  factor: f32,   // on sine and cosine
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> positions: array<u32>;    // [tokens]; 0xffffffff leaves a token as it is
@group(0) @binding(2) var<storage, read> fractions: array<vec2u>;  // [pairs]: turns a position in units of 2^-32, and the next 12 bits
@group(0) @binding(3) var<storage, read_write> x: array<f32>;      // [tokens, row]

@compute @workgroup_size(64)
fn rotary(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = (group.x + group.y * groups.x) * 64 + lane;
  if (index >= shape.tokens * shape.pairs) { return; }
  let token = index / shape.pairs;
  let position = positions[token];
  if (position == 0xffffffff) { return; }
  let fraction = fractions[index % shape.pairs];
  let direction = unit(position * fraction.x + ((position * fraction.y) >> 12)) * shape.factor;

  var a = token * shape.row + shape.offset + index % shape.pairs * shape.step;
  for (var head = 0u; head < shape.heads; head++) {
    let b = a + shape.apart;
    let pair = vec2f(x[a], x[b]);
    x[a] = pair.x * direction.x - pair.y * direction.y;
    x[b] = pair.y * direction.x + pair.x * direction.y;
    a += shape.stride;
  }
}

// (cos, sin) of turn / 2^32 full turns.
fn unit(turn: u32) -> vec2f {
  let quadrant = (turn + 0x20000000) >> 30; // the nearest axis
  let t = f32(bitcast<i32>(turn - (quadrant << 30))) * 1.4629180792671596e-9; // radians from it: 2 pi / 2^32, at most pi / 4
  let s = t * t;
  // Taylor's series; the first term left out is below 2^-28.
  let sine = t + t * s * (-1.6666667e-1 + s * (8.3333333e-3 + s * (-1.9841270e-4 + s * 2.7557319e-6)));
  let cosine = 1 - s * (0.5 - s * (4.1666667e-2 + s * (-1.3888889e-3 + s * (2.4801587e-5 - s * 2.7557319e-7))));
  switch quadrant {
    case 1: { return vec2f(-sine, cosine); }
    case 2: { return vec2f(-cosine, -sine); }
    case 3: { return vec2f(sine, -cosine); }
    default: { return vec2f(cosine, sine); }
  }
}
