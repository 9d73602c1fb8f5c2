/**
 * What dropping sets of experts costs, token by token: the pricing of the cpu device, in WebAssembly. AssemblyScript; `deno task wasm` builds choices.wasm.
 *
 * Up to 128 sets are priced together, by walking down the token's ranked experts: at each, the sets part into those that drop the expert and those that
 * choose it, until all of a node have chosen their top-k. Sets that lead to the same choice share its price, and choices share what they begin with.
 *
 * With F = f / S the output (f = sum of p_r o_r over the token's own experts, S the sum of their p or 1) and u the same sum over what is chosen now, a node
 * holds |v|^2, <v, u>, |u|^2, <R, v>, <R, u> and the sum of the chosen p; v = f - u is kept as what went less what came, so that nothing cancels, R is what
 * the output lacks already. A step down costs at most 2k products of the token's Gram matrix. Where weights are not renormalised all of them grow by
 * 1 / (1 - q), q the dropped probability mass: the output is u (1 + g), g = q / (1 - q).
 *
 * The host asks for `places`, fills the arrays whose addresses it gets for as many tokens as it gave, and calls `price`.
 */

/** Probability that counts as none, in a sum that is divided by: below it float32 overflows. */
const LEAST: f64 = 1e-37;

/** In a list of experts: no expert here. */
const NO_EXPERT: u32 = 0xffffffff;

/** Numbers of a node that its branches begin with, and their bytes. */
const NODE: usize = 6 * 8;

let ranks: i32 = 0, topK: i32 = 0, keep: i32 = 0, experts: i32 = 0, sets: i32 = 0;
let renormalise: bool = false, scale: f64 = 1;

// Filled by the host, each for `tokens` tokens but the first three.
/** Sets that drop an expert, as bits: u32 [experts, 4]. */
let dropped: usize = 0;
/** Group of each expert, where routing is limited to groups: u32 [experts]. */
let groups: usize = 0;
/** Losses of the sets so far: f64 [128]. */
let totals: usize = 0;
/** Ranked experts, u32 [tokens, ranks], and their probabilities, f32. */
let ranked: usize = 0, weights: usize = 0;
/** Inner products of their outputs, f32 [tokens, ranks, ranks], and with R, f32 [tokens, ranks]: zeros where the output lacks nothing. */
let gram: usize = 0, along: usize = 0;
/** Probabilities of all experts, f32 [tokens, experts], and of what each set drops together, f32 [tokens, sets]. */
let probabilities: usize = 0, mass: usize = 0;

// Of the token at hand.
/** g of each set: f64 [128]. */
let growth: usize = 0;
/** What nodes on the way down begin with: [ranks + 1, 6] f64. */
let nodes: usize = 0;
/** Ranks of the token's own that went, u32, with their p, f64. */
let gone: usize = 0, lost: usize = 0;
/** Ranks that are chosen, u32; with their p; and with their p if they came, 0 if they are the token's own, f64. */
let chosen: usize = 0, share: usize = 0, came: usize = 0;
/** Groups that are admitted, in the order in which their first expert was met: u32. */
let admitted: usize = 0;
/** 1 for ranks that the token uses when nothing is dropped: u8. */
let own: usize = 0;
let lastOwn: i32 = -1, ownSum: f64 = 0;
/** Arrays at the token at hand. */
let list: usize = 0, p: usize = 0, products: usize = 0, lacking: usize = 0;

let end: usize = 0;

function place(bytes: usize): usize {
  const start = end;
  end = start + bytes + 15 & ~15;
  return start;
}

/**
 * Makes room for so many tokens, and begins memory with the addresses of the arrays that the host fills, in the order in which they stand above. `admit` is the
 * number of groups that take part, 0 where routing is not limited to groups.
 */
export function places(
  tokens: i32,
  rankCount: i32,
  expertCount: i32,
  setCount: i32,
  chosenCount: i32,
  admit: i32,
  normalise: bool,
  factor: f64,
): void {
  ranks = rankCount, experts = expertCount, sets = setCount, topK = chosenCount, keep = admit, renormalise = normalise, scale = factor;
  end = 9 * 4 + 15 & ~15;
  dropped = place(16 * experts), groups = place(4 * experts), totals = place(8 * 128);
  ranked = place(4 * tokens * ranks), weights = place(4 * tokens * ranks);
  gram = place(4 * tokens * ranks * ranks), along = place(4 * tokens * ranks);
  probabilities = place(4 * tokens * experts), mass = place(4 * tokens * sets);
  growth = place(8 * 128), nodes = place(NODE * (ranks + 1));
  gone = place(4 * topK), lost = place(8 * topK), chosen = place(4 * topK), share = place(8 * topK), came = place(8 * topK);
  admitted = place(4 * keep), own = place(ranks);
  const missing = <i32> (end + 65535 >>> 16) - memory.size();
  if (missing > 0 && memory.grow(missing) < 0) unreachable();
  memory.fill(0, 0, end);
  store<u32>(0, dropped), store<u32>(0, groups, 4), store<u32>(0, totals, 8), store<u32>(0, ranked, 12), store<u32>(0, weights, 16);
  store<u32>(0, gram, 20), store<u32>(0, along, 24), store<u32>(0, probabilities, 28), store<u32>(0, mass, 32);
}

/** Adds the losses of so many tokens to the totals. */
export function price(tokens: i32): void {
  for (let t = 0; t < tokens; t++) {
    list = ranked + 4 * t * ranks, p = weights + 4 * t * ranks, products = gram + 4 * t * ranks * ranks, lacking = along + 4 * t * ranks;
    if (!renormalise) grow(t);
    findOwn();
    memory.fill(nodes, 0, NODE);
    visit(bits(0), bits(32), bits(64), bits(96), 0, 0, 0, 0, nodes);
  }
}

/** Ones for the sets from `first` on that there are. */
function bits(first: i32): i32 {
  return sets >= first + 32 ? -1 : sets <= first ? 0 : (1 << sets - first) - 1;
}

function grow(t: i32): void {
  const row = mass + 4 * t * sets;
  for (let s = 0; s < sets; s++) {
    const q: f64 = load<f32>(row + 4 * s);
    // A sum of what is left keeps its digits where nearly everything is lost.
    const left = q > 0.5 ? kept(t, s) : 1 - q;
    store<f64>(growth + 8 * s, left < LEAST ? -1 : q / left); // -1: without any probability left the output is zero
  }
}

function kept(t: i32, s: i32): f64 {
  const row = probabilities + 4 * t * experts, word = dropped + 4 * (s >> 5), bit = 1 << (s & 31);
  let sum: f64 = 0;
  for (let e = 0; e < experts; e++) if ((load<i32>(word + 16 * e) & bit) === 0) sum += load<f32>(row + 4 * e);
  return sum;
}

/** Top-k of the ranked experts. As they fall in probability, the first `keep` groups met are the admitted ones. */
function findOwn(): void {
  memory.fill(own, 0, ranks);
  let size = 0, count = 0;
  ownSum = 0, lastOwn = -1;
  for (let r = 0; r < ranks && size < topK; r++) {
    const expert = load<u32>(list + 4 * r);
    if (expert === NO_EXPERT) break;
    if (keep > 0) {
      const after = admit(load<u32>(groups + 4 * expert), count);
      if (after < 0) continue;
      count = after;
    }
    store<u8>(own + r, 1), lastOwn = r, size++;
    ownSum += load<f32>(p + 4 * r);
  }
}

/** Admits a group beside so many others. Gives how many are admitted then, -1 if this one is not. */
function admit(group: u32, count: i32): i32 {
  for (let i = 0; i < count; i++) if (load<u32>(admitted + 4 * i) === group) return count;
  if (count === keep) return -1;
  store<u32>(admitted + 4 * count, group);
  return count + 1;
}

/**
 * Goes on with the sets whose bits are given, which have come to the same choice before rank r: `size` experts chosen, `left` of the token's own gone,
 * `others` groups admitted.
 */
function visit(a: i32, b: i32, c: i32, d: i32, r: i32, size: i32, left: i32, others: i32, node: usize): void {
  let apart = load<f64>(node), cross = load<f64>(node, 8), square = load<f64>(node, 16);
  let lackApart = load<f64>(node, 24), lackChosen = load<f64>(node, 32), sum = load<f64>(node, 40);
  for (; r < ranks; r++) {
    const full = size === topK;
    if (full && r > lastOwn) break;
    const expert = load<u32>(list + 4 * r);
    if (expert === NO_EXPERT) break;
    const after = full ? -1 : keep > 0 ? admit(load<u32>(groups + 4 * expert), others) : 0, isOwn = load<u8>(own + r) === 1;
    // The sets that choose the expert, of those that go on.
    let a1 = 0, b1 = 0, c1 = 0, d1 = 0;
    if (after >= 0) {
      const word = dropped + 16 * expert;
      a1 = a & ~load<i32>(word), b1 = b & ~load<i32>(word, 4), c1 = c & ~load<i32>(word, 8), d1 = d & ~load<i32>(word, 12);
    }
    const some = (a1 | b1 | c1 | d1) !== 0;
    if (!some && !isOwn) continue;
    const w: f64 = load<f32>(p + 4 * r), row = products + 4 * r * ranks, norm = w * <f64> load<f32>(row + 4 * r);
    const lack = w * <f64> load<f32>(lacking + 4 * r);
    let withChange: f64 = 0, withChosen: f64 = 0; // with what went less what came, and with what is chosen
    for (let i = 0; i < left; i++) withChange += load<f64>(lost + 8 * i) * <f64> load<f32>(row + 4 * load<u32>(gone + 4 * i));
    for (let i = 0; i < size; i++) {
      const product: f64 = load<f32>(row + 4 * load<u32>(chosen + 4 * i));
      withChosen += load<f64>(share + 8 * i) * product, withChange -= load<f64>(came + 8 * i) * product;
    }
    if (some) {
      const other: f64 = isOwn ? 0 : 1;
      store<u32>(chosen + 4 * size, r), store<f64>(share + 8 * size, w), store<f64>(came + 8 * size, other * w);
      const nextApart = apart + other * w * (norm - 2 * withChange), nextCross = cross + w * (withChange - other * (withChosen + norm));
      const nextSquare = square + w * (2 * withChosen + norm), nextLack = lackApart - other * lack;
      a ^= a1, b ^= b1, c ^= c1, d ^= d1;
      if ((a | b | c | d) === 0) { // all of them choose it: no new node
        a = a1, b = b1, c = c1, d = d1;
        apart = nextApart, cross = nextCross, square = nextSquare, lackApart = nextLack, lackChosen += lack, sum += w;
        size++, others = after;
        continue;
      }
      const below = node + NODE;
      store<f64>(below, nextApart), store<f64>(below, nextCross, 8), store<f64>(below, nextSquare, 16);
      store<f64>(below, nextLack, 24), store<f64>(below, lackChosen + lack, 32), store<f64>(below, sum + w, 40);
      visit(a1, b1, c1, d1, r + 1, size + 1, left, after, below);
    }
    if (!isOwn) continue;
    store<u32>(gone + 4 * left, r), store<f64>(lost + 8 * left, w);
    left++;
    apart += w * (2 * withChange + norm), cross += w * withChosen, lackApart += lack;
  }
  settle(a, b, c, d, apart, cross, square, lackApart, lackChosen, sum);
}

/** Adds |F + R - F'|^2 - |R|^2 to the sets of a node, F' = (1 + growth) u, or u over the sum of its p. */
function settle(
  a: i32,
  b: i32,
  c: i32,
  d: i32,
  apart: f64,
  cross: f64,
  square: f64,
  lackApart: f64,
  lackChosen: f64,
  sum: f64,
): void {
  let fixed = scale * (scale * apart + 2 * lackApart), linear: f64 = 0, quadratic: f64 = 0;
  if (renormalise) { // F - F' = f v + g u
    const f = inverse(ownSum), g = f - inverse(sum);
    fixed = f * (f * apart + 2 * (g * cross + lackApart)) + g * (g * square + 2 * lackChosen);
  } else linear = 2 * scale * (scale * cross + lackChosen), quadratic = scale * scale * square;
  add(a, 0, fixed, linear, quadratic), add(b, 32, fixed, linear, quadratic);
  add(c, 64, fixed, linear, quadratic), add(d, 96, fixed, linear, quadratic);
}

function inverse(sum: f64): f64 {
  return sum < LEAST ? 0 : scale / sum;
}

/** Adds fixed + growth * (growth * quadratic - linear) to the totals of the sets with these bits. */
// @ts-ignore: decorator
@inline
function add(bits: i32, first: i32, fixed: f64, linear: f64, quadratic: f64): void {
  while (bits !== 0) {
    const at = 8 * (first + ctz(bits)), g = load<f64>(growth + at);
    store<f64>(totals + at, load<f64>(totals + at) + fixed + g * (g * quadratic - linear));
    bits &= bits - 1;
  }
}
