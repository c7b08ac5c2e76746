// Masks as COCO writes them, run lengths down the columns, into vertical spans of pixels.

/** Run lengths of COCO's compressed form: groups of five bits; from the third on, the difference to the one two before. */
export function decodeCounts(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    let group;
    do {
      group = text.charCodeAt(at++) - 48;
      value |= (group & 0x1f) << shift;
      shift += 5;
    } while (group & 0x20);
    if (group & 0x10 && shift < 32) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/**
 * The pixels of a mask, one entry for each uninterrupted stretch within a column, sorted by column, then by row:
 * `xs`, and rows from `tops` up to, not including, `bottoms`. Takes `{size: [height, width], counts}`.
 */
export function spansOf({ size: [height], counts }) {
  const runs = typeof counts === "string" ? decodeCounts(counts) : counts;
  const xs = [];
  const tops = [];
  const bottoms = [];
  let position = 0;
  runs.forEach((run, i) => {
    let start = position;
    position += run;
    while (i % 2 && start < position) {
      const x = Math.floor(start / height);
      const end = Math.min(position, (x + 1) * height);
      const last = xs.length - 1;
      if (last >= 0 && xs[last] === x && bottoms[last] === start - x * height) bottoms[last] = end - x * height;
      else {
        xs.push(x);
        tops.push(start - x * height);
        bottoms.push(end - x * height);
      }
      start = end;
    }
  });
  return { height, xs: Int32Array.from(xs), tops: Int32Array.from(tops), bottoms: Int32Array.from(bottoms) };
}

/** Whether the pixel in column x and row y belongs to the mask. */
export function contains({ xs, tops, bottoms }, x, y) {
  let low = 0;
  let high = xs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  for (; low < xs.length && xs[low] === x; low++) if (tops[low] <= y && y < bottoms[low]) return true;
  return false;
}
