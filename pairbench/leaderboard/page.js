"use strict";
(function table() {
  const board = document.getElementById("board");
  const body = board.tBodies[0];
  const heads = [...board.tHead.rows[0].cells];
  const said = document.getElementById("sorted");
  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const order = now === "ascending" ? "descending" : now === "descending" ? "ascending" : head.dataset.first;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const numeric = "numeric" in head.dataset;
    const key = (row) => row.cells[index].dataset.value;
    [...body.rows]
      .map((row, place) => ({ row, place, key: key(row) }))
      .sort((a, b) => {
        if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "") || a.place - b.place;
        const by = numeric ? a.key - b.key : a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
        return sign * by || a.place - b.place;
      })
      .forEach((item) => body.appendChild(item.row));
    said.textContent = `Sorted by ${head.querySelector("button").textContent}, ${order}.`;
  }));
})();

(function open() {
  const show = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView({ block: "nearest" });
    }
  };
  addEventListener("hashchange", show);
  show();
})();

(function curves() {
  const data = JSON.parse(document.getElementById("curves").textContent);
  const place = document.getElementById("chart");
  const legend = document.getElementById("legend");
  const tip = document.getElementById("tip");
  const dashes = ["", "7 3", "2 3", "9 3 2 3"];
  let trained = 0;
  const series = data.rows.map((row) => {
    const index = row.floor ? 0 : trained++;
    return {
      ...row, shown: true,
      colour: row.floor ? "var(--floor)" : `var(--c${index % 10})`,
      dash: row.floor ? (data.rows.filter((r) => r.floor).indexOf(row) % 2 ? "1 4" : "4 4") : dashes[Math.floor(index / 6) % 4],
    };
  });
  // a point is [middle, low, high, value on each axis ...]; a level has no value on any
  let axis = 0, first = 0, last = 0;
  const px = (p) => p[3 + axis] ?? null;
  const measure = () => {
    const all = series.flatMap((s) => s.curve.map(px)).filter((v) => v !== null);
    last = Math.max(...all, axis ? -Infinity : 0);
    first = axis ? Math.min(...all) : 0;
  };
  measure();
  if (!series.length || !(last > 0)) {
    document.getElementById("curve-section").hidden = true;
    return;
  }
  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };
  const short = (x) => {
    for (const [size, suffix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(x) >= size) return +(x / size).toPrecision(4) + suffix;
    return String(+x.toPrecision(3));
  };
  const exact = (x) => (Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toPrecision(Math.abs(x) >= 1 && Math.abs(x) < 10 ? 4 : 3)));
  const ticks = (low, high, count) => {
    const raw = (high - low) / count || 1;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 2.5, 5, 10].find((m) => m * unit >= raw * 0.999);
    const all = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) all.push(+(k * step).toPrecision(12));
    return all;
  };
  let svg, view, cross, at = null;

  function draw() {
    const width = Math.max(place.clientWidth, 280);
    const height = Math.round(Math.min(Math.max(width * 0.46, 260), 460));
    const visible = series.filter((s) => s.shown);
    const points = (visible.length ? visible : series).flatMap((s) => s.curve);
    const middles = points.map((p) => p[0]);
    const range = Math.max(...middles) - Math.min(...middles) || Math.abs(middles[0]) || 1;
    const within = (x) => Math.min(Math.max(x, Math.min(...middles) - 0.5 * range), Math.max(...middles) + 0.5 * range);
    const ends = points.flatMap((p) => [p[0], p[1], p[2]]).filter((x) => x !== null).map(within);
    let low = Math.min(...ends), high = Math.max(...ends);
    const room = 0.04 * (high - low || 1);
    low -= room; high += room;
    const left = 52, right = 14, top = 10, bottom = 40;
    const x = (v) => left + ((v - first) / (last - first || 1)) * (width - left - right);
    const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
    view = { x, y, left, right, top, bottom, width, height };
    place.replaceChildren();
    svg = make("svg", {
      viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0",
      "aria-label": `Learning curves of ${visible.length} rows against ${data.axes[axis]}. Left and right arrow keys read the values.`,
    }, place);
    const clip = make("clipPath", { id: "frame" }, make("defs", {}, svg));
    make("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }, clip);
    for (const v of ticks(low, high, Math.max(3, Math.floor(height / 70)))) {
      make("line", { class: v === 0 ? "axis" : "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }, svg);
      make("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, svg, short(v));
    }
    for (const v of ticks(first, last, Math.max(2, Math.floor(width / 130))))
      make("text", { x: x(v), y: height - bottom + 18, "text-anchor": v === first ? "start" : v >= last ? "end" : "middle" }, svg, short(v));
    make("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, svg, data.axes[axis]);
    const inside = make("g", { "clip-path": "url(#frame)" }, svg);
    for (const s of visible) {
      const group = make("g", { class: "series" }, inside);
      group.dataset.row = s.row;
      s.group = group;
      const level = s.curve.length < 2;
      const path = (level ? [first, last].map((v) => ({ p: s.curve[0], v })) : s.curve.map((p) => ({ p, v: px(p) })))
        .filter((c) => c.v !== null);
      const banded = axis && !level ? [] : path.filter((c) => c.p[1] !== null);
      if (banded.length > 1) {
        const edge = [...banded.map((c) => `${x(c.v)},${y(c.p[2])}`), ...banded.map((c) => `${x(c.v)},${y(c.p[1])}`).reverse()];
        make("polygon", { class: "spread", points: edge.join(" "), style: `fill:${s.colour};opacity:${visible.length > 6 ? 0.07 : 0.14}` }, group);
      }
      make("polyline", { class: "line", points: path.map((c) => `${x(c.v)},${y(c.p[0])}`).join(" "), style: `stroke:${s.colour}`, "stroke-dasharray": s.dash }, group);
      if (axis && !level) for (const c of path)
        make("circle", { class: "dot", cx: x(c.v), cy: y(c.p[0]), r: 3, style: `fill:${s.colour}` }, group);
    }
    cross = make("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" }, svg);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      read(((event.clientX - box.left) / box.width * width - left) / (width - left - right) * (last - first) + first);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const stops = stopsOf();
      const now = stops.indexOf(at);
      const next = { ArrowRight: now + 1, ArrowLeft: now < 0 ? stops.length - 1 : now - 1, Home: 0, End: stops.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      if (next === undefined) return;
      event.preventDefault();
      read(stops[Math.min(Math.max(next, 0), stops.length - 1)]);
    });
  }
  const stopsOf = () => [...new Set(series.filter((s) => s.shown).flatMap((s) => s.curve.map(px)))]
    .filter((v) => v !== null).sort((a, b) => a - b);
  function hide() { at = null; tip.hidden = true; cross.setAttribute("visibility", "hidden"); }
  function read(steps) {
    const stops = stopsOf();
    if (!stops.length) return;
    at = stops.reduce((best, v) => (Math.abs(v - steps) < Math.abs(best - steps) ? v : best));
    cross.setAttribute("x1", view.x(at));
    cross.setAttribute("x2", view.x(at));
    cross.setAttribute("visibility", "visible");
    const away = (p) => Math.abs((px(p) ?? at) - at);
    const reads = series.filter((s) => s.shown).map((s) => {
      const point = s.curve.reduce((best, p) => (away(p) < away(best) ? p : best));
      return { s, point };
    }).filter((item) => away(item.point) <= (last - first) * 0.02)
      .sort((a, b) => b.point[0] - a.point[0]);
    tip.replaceChildren();
    const head = document.createElement("strong");
    head.textContent = `${short(at)} ${data.axes[axis]}`;
    tip.appendChild(head);
    for (const { s, point } of reads) {
      const line = document.createElement("div");
      const key = document.createElement("i");
      key.style.background = s.colour;
      const name = document.createElement("span");
      name.textContent = s.row;
      const value = document.createElement("span");
      value.textContent = exact(point[0]) + (point[1] === null ? "" : ` [${exact(point[1])}, ${exact(point[2])}]`);
      line.append(key, name, value);
      tip.appendChild(line);
    }
    tip.hidden = false;
    const box = svg.getBoundingClientRect(), outer = place.parentElement.getBoundingClientRect();
    const spot = box.left - outer.left + view.x(at) / view.width * box.width;
    const side = spot > outer.width / 2 ? spot - tip.offsetWidth - 14 : spot + 14;
    tip.style.left = `${Math.min(Math.max(side, 4), Math.max(outer.width - tip.offsetWidth - 4, 4))}px`;
    tip.style.top = `${box.top - outer.top + 12}px`;
  }
  for (const s of series) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const key = make("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, button);
    make("line", { x1: 0, x2: 22, y1: 4, y2: 4, style: `stroke:${s.colour}`, "stroke-width": 3, "stroke-dasharray": s.dash }, key);
    button.appendChild(document.createTextNode(s.row));
    const light = (on) => {
      if (!s.group) return;
      svg.classList.toggle("dim", on && s.shown);
      s.group.classList.toggle("lit", on);
    };
    s.set = (on) => { s.shown = on; button.setAttribute("aria-pressed", String(on)); };
    button.addEventListener("click", () => { s.set(!s.shown); hide(); draw(); });
    button.addEventListener("pointerenter", () => light(true));
    button.addEventListener("pointerleave", () => light(false));
    button.addEventListener("focus", () => light(true));
    button.addEventListener("blur", () => light(false));
    const item = document.createElement("li");
    item.appendChild(button);
    legend.appendChild(item);
  }
  const choice = document.getElementById("axis");
  if (choice) choice.addEventListener("change", () => { axis = +choice.value; measure(); hide(); draw(); });
  document.getElementById("all").addEventListener("click", () => { series.forEach((s) => s.set(true)); draw(); });
  document.getElementById("none").addEventListener("click", () => { series.forEach((s) => s.set(false)); draw(); });
  draw();
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) { width = place.clientWidth; hide(); draw(); }
  }).observe(place);
})();
