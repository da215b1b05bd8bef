// Small lines of how a number went.

// Draw the values, from 0 up, into an svg element; `second` is drawn in the same scale.
export function spark(svg, values, second = null, floor = 0) {
  const width = 100, height = 26;
  if (!svg.dataset.made) {
    svg.dataset.made = "1";
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    for (const name of ["fill", "stroke", "second"]) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      svg.append(path);
    }
  }
  const top = Math.max(floor, 1e-9, ...values, ...(second || []));
  const slots = Math.max(60, values.length);
  const line = (list) => list.map((value, i) => {
    const x = width - (list.length - 1 - i) * width / (slots - 1);
    return `${x.toFixed(2)} ${(height - 1 - value / top * (height - 2)).toFixed(2)}`;
  });
  const points = line(values);
  const [fill, stroke, other] = svg.children;
  const path = points.length > 1 ? `M${points.join("L")}` : "";
  stroke.setAttribute("d", path);
  const left = width - (values.length - 1) * width / (slots - 1);
  fill.setAttribute("d", path ? `${path}L${width} ${height}L${left.toFixed(2)} ${height}Z` : "");
  other.setAttribute("d", second && second.length > 1 ? `M${line(second).join("L")}` : "");
}
