// Lines around what exceeds a level: marching squares, W. E. Lorensen and H. E. Cline, 1987.

// The edges of a square of four values that lines join, by which of these are above:
// 1 top left, 2 top right, 4 bottom right, 8 bottom left; edges 0 top, 1 right, 2 bottom, 3 left.
// What is above lies on the same side of every line, so that each begins where another ends.
const JOINED = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];

// A path in pixels of the map around what exceeds a level; values are those of the codes, which
// ascend. Beyond the border nothing exceeds it, so that all lines are closed.
function outline({ width, height, codes }, values, level) {
  const path = new Path2D();
  const lines = linesBetweenEdges(width, height, codes, values, level);
  for (const [first, line] of lines) {
    path.moveTo(line.x, line.y);
    for (let edge = line.to; edge !== first; ) {
      const { x, y, to } = lines.get(edge);
      path.lineTo(x, y);
      lines.delete(edge);
      edge = to;
    }
    path.closePath();
    lines.delete(first);
  }
  return path;
}

// For each edge that a line begins at: where it crosses it, and the edge that it leads to.
function linesBetweenEdges(width, height, codes, values, level) {
  const found = values.findIndex((value) => value > level);
  const lowest = found < 0 ? 256 : found; // of the codes above the level
  const stride = width + 2;
  const framed = new Int16Array(stride * (height + 2)).fill(-1);
  for (let y = 0; y < height; y += 1) {
    framed.set(codes.subarray(y * width, (y + 1) * width), (y + 1) * stride + 1);
  }
  const share = (from, to) => (from < 0 || to < 0 ? 0.5 : (level - values[from]) / (values[to] - values[from]));
  const lines = new Map();
  for (let y = 0; y <= height; y += 1) {
    for (let x = 0; x <= width; x += 1) {
      const i = y * stride + x;
      const a = framed[i];
      const b = framed[i + 1];
      const c = framed[i + stride + 1];
      const d = framed[i + stride];
      const kind = (a >= lowest) | ((b >= lowest) << 1) | ((c >= lowest) << 2) | ((d >= lowest) << 3);
      if (kind === 0 || kind === 15) continue;
      const edges = [2 * i, 2 * (i + 1) + 1, 2 * (i + stride), 2 * i + 1];
      for (const [from, to] of JOINED[kind]) {
        const place =
          from === 0 ? [x - 0.5 + share(a, b), y - 0.5]
          : from === 1 ? [x + 0.5, y - 0.5 + share(b, c)]
          : from === 2 ? [x - 0.5 + share(d, c), y + 0.5]
          : [x - 0.5, y - 0.5 + share(a, d)];
        lines.set(edges[from], { x: place[0], y: place[1], to: edges[to] });
      }
    }
  }
  return lines;
}
