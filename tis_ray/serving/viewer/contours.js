// The outline of a mask: loops along the edges of its pixels, the mask on their right-hand side, and simpler ones.

/** Closed loops `[x0, y0, x1, y1, ...]` around the pixels of spans (see rle.js); holes run the other way round. */
export function trace(spans) {
  const edges = new Edges(spans.height + 1);
  const { xs, tops, bottoms } = spans;
  let left = [0, 0]; // the stretch of spans that belongs to the column on the left
  for (let i = 0; i < xs.length; ) {
    let end = i;
    while (end < xs.length && xs[end] === xs[i]) {
      edges.add(xs[i], tops[end], xs[i] + 1, tops[end]);
      edges.add(xs[i] + 1, bottoms[end], xs[i], bottoms[end]);
      end++;
    }
    if (left[1] && xs[left[0]] !== xs[i] - 1) {
      between(spans, left, [i, i], xs[left[0]] + 1, edges);
      left = [i, i];
    }
    between(spans, left, [i, end], xs[i], edges);
    left = [i, end];
    i = end;
  }
  if (xs.length) between(spans, left, [0, 0], xs[xs.length - 1] + 1, edges);
  return edges.loops();
}

/** Add the vertical edges at `x`, where the columns on its two sides differ. */
function between({ tops, bottoms }, left, right, x, edges) {
  const changes = [];
  for (let i = left[0]; i < left[1]; i++) changes.push([tops[i], 1], [bottoms[i], 1]);
  for (let i = right[0]; i < right[1]; i++) changes.push([tops[i], 2], [bottoms[i], 2]);
  changes.sort((a, b) => a[0] - b[0]);
  let inside = 0;
  changes.forEach(([y, side], i) => {
    inside ^= side;
    const below = i + 1 < changes.length ? changes[i + 1][0] : y;
    if (below === y) return;
    if (inside === 1) edges.add(x, y, x, below);
    else if (inside === 2) edges.add(x, below, x, y);
  });
}

/** Directed edges by where they begin; at most two begin at one corner, where two pixels touch by their corners. */
class Edges {
  constructor(stride) {
    this.stride = stride;
    this.first = new Map();
    this.second = new Map();
  }

  add(x0, y0, x1, y1) {
    const from = x0 * this.stride + y0;
    (this.first.has(from) ? this.second : this.first).set(from, x1 * this.stride + y1);
  }

  take(from) {
    const to = this.first.get(from);
    const other = this.second.get(from);
    if (other === undefined) this.first.delete(from);
    else {
      this.first.set(from, other);
      this.second.delete(from);
    }
    return to;
  }

  loops() {
    const loops = [];
    for (const start of this.first.keys()) {
      while (this.first.has(start)) {
        const loop = [];
        let at = start;
        do {
          loop.push(Math.floor(at / this.stride), at % this.stride);
          at = this.take(at);
        } while (at !== start);
        loops.push(withoutStraight(loop));
      }
    }
    return loops;
  }
}

function withoutStraight(loop) {
  const kept = [];
  const n = loop.length;
  for (let i = 0; i < n; i += 2) {
    const before = (i + n - 2) % n;
    const after = (i + 2) % n;
    const straight = (loop[before] === loop[i] && loop[i] === loop[after])
      || (loop[before + 1] === loop[i + 1] && loop[i + 1] === loop[after + 1]);
    if (!straight) kept.push(loop[i], loop[i + 1]);
  }
  return kept;
}

/** The loop with fewer corners, none of those left out further than `tolerance` px away (Douglas and Peucker 1973). */
export function simplify(loop, tolerance) {
  const n = loop.length / 2;
  if (n < 5 || tolerance <= 0) return loop;
  const keep = new Uint8Array(n + 1);
  const far = farthest(loop, 0, 0, n)[0];
  keep[0] = keep[far] = 1;
  const open = [[0, far], [far, n]];
  while (open.length) {
    const [from, to] = open.pop();
    const [index, distance] = farthest(loop, from, to, n);
    if (distance <= tolerance) continue;
    keep[index] = 1;
    open.push([from, index], [index, to]);
  }
  return loop.filter((_, i) => keep[i >> 1]);
}

/** The corner between two others that lies furthest from the line through them (from the first where they are one). */
function farthest(loop, from, to, n) {
  const end = from === to ? n : to;
  const [x0, y0] = [loop[2 * from], loop[2 * from + 1]];
  const [dx, dy] = [loop[2 * (to % n)] - x0, loop[2 * (to % n) + 1] - y0];
  const length = Math.hypot(dx, dy);
  let best = -1;
  let index = from;
  for (let i = from + 1; i < end; i++) {
    const [px, py] = [loop[2 * i] - x0, loop[2 * i + 1] - y0];
    const distance = length ? Math.abs(px * dy - py * dx) / length : Math.hypot(px, py);
    if (distance > best) [best, index] = [distance, i];
  }
  return [index, best];
}

/** Loops as one path to fill and to stroke; corners further apart than details of `tolerance` px need are left out. */
export function pathOf(loops, tolerance) {
  const path = new Path2D();
  for (const loop of loops) {
    const corners = simplify(loop, Math.min(tolerance, extent(loop) / 8)); // what is tiny keeps its form
    path.moveTo(corners[0], corners[1]);
    for (let i = 2; i < corners.length; i += 2) path.lineTo(corners[i], corners[i + 1]);
    path.closePath();
  }
  return path;
}

function extent(loop) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < loop.length; i += 2) {
    x0 = Math.min(x0, loop[i]);
    x1 = Math.max(x1, loop[i]);
    y0 = Math.min(y0, loop[i + 1]);
    y1 = Math.max(y1, loop[i + 1]);
  }
  return Math.min(x1 - x0, y1 - y0);
}
