// Lines around what exceeds a level: marching squares, W. E. Lorensen and H. E. Cline, 1987.

// The edges of a square of four values that a line joins, by which of them are above:
// 1 top left, 2 top right, 4 bottom right, 8 bottom left; edges 0 top, 1 right, 2 bottom, 3 left.
const JOINED = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];

// A path in pixels of the map around what exceeds the level; valueAt(x, y) gives a pixel's value.
// Beyond the border nothing exceeds it, so that what touches the border is closed there.
function outline(width, height, valueAt, level) {
  const path = new Path2D();
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? -Infinity : valueAt(x, y));
  const crossing = (start, v0, v1) =>
    start + (Number.isFinite(v0) && Number.isFinite(v1) ? (level - v0) / (v1 - v0) : 0.5);
  for (let y = -1; y < height; y += 1) {
    let a = at(-1, y);
    let d = at(-1, y + 1);
    for (let x = -1; x < width; x += 1) {
      const b = at(x + 1, y);
      const c = at(x + 1, y + 1);
      const kind = (a > level) | ((b > level) << 1) | ((c > level) << 2) | ((d > level) << 3);
      for (const [from, to] of JOINED[kind]) {
        for (const [edge, method] of [[from, "moveTo"], [to, "lineTo"]]) {
          if (edge === 0) path[method](crossing(x, a, b) + 0.5, y + 0.5);
          else if (edge === 1) path[method](x + 1.5, crossing(y, b, c) + 0.5);
          else if (edge === 2) path[method](crossing(x, d, c) + 0.5, y + 1.5);
          else path[method](x + 0.5, crossing(y, a, d) + 0.5);
        }
      }
      a = b;
      d = c;
    }
  }
  return path;
}
