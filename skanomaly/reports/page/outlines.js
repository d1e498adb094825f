// Lines around what exceeds a level: marching squares, W. E. Lorensen and H. E. Cline, 1987.

// The edges of a square of four values that lines join, by which of these are above:
// 1 top left, 2 top right, 4 bottom right, 8 bottom left; edges 0 top, 1 right, 2 bottom, 3 left.
// What is above lies on the same side of every line, so that each begins where another ends.
const JOINED = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];

// A path in pixels of the map around what exceeds the level; valueAt(x, y) gives a pixel's value.
// Beyond the border nothing exceeds it, so that all lines are closed.
function outline(width, height, valueAt, level) {
  const path = new Path2D();
  const next = linesBetweenEdges(width, height, valueAt, level);
  for (const [first, line] of next) {
    path.moveTo(line.x, line.y);
    for (let edge = line.to; edge !== first; ) {
      const { x, y, to } = next.get(edge);
      path.lineTo(x, y);
      next.delete(edge);
      edge = to;
    }
    path.closePath();
    next.delete(first);
  }
  return path;
}

// For each edge that a line begins at: where it crosses it, and the edge that it leads to.
function linesBetweenEdges(width, height, valueAt, level) {
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? -Infinity : valueAt(x, y));
  const crossing = (start, v0, v1) =>
    start + 0.5 + (Number.isFinite(v0) && Number.isFinite(v1) ? (level - v0) / (v1 - v0) : 0.5);
  const lines = new Map();
  const key = (x, y, isVertical) => 2 * ((y + 1) * (width + 2) + x + 1) + isVertical;
  for (let y = -1; y < height; y += 1) {
    let a = at(-1, y);
    let d = at(-1, y + 1);
    for (let x = -1; x < width; x += 1) {
      const b = at(x + 1, y);
      const c = at(x + 1, y + 1);
      const kind = (a > level) | ((b > level) << 1) | ((c > level) << 2) | ((d > level) << 3);
      const edges = kind % 15 ? [key(x, y, 0), key(x + 1, y, 1), key(x, y + 1, 0), key(x, y, 1)] : null;
      for (const [from, to] of JOINED[kind]) {
        const place =
          from === 0 ? [crossing(x, a, b), y + 0.5]
          : from === 1 ? [x + 1.5, crossing(y, b, c)]
          : from === 2 ? [crossing(x, d, c), y + 1.5]
          : [x + 0.5, crossing(y, a, d)];
        lines.set(edges[from], { x: place[0], y: place[1], to: edges[to] });
      }
      a = b;
      d = c;
    }
  }
  return lines;
}
