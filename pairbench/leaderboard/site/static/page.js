"use strict";
(function table() {
  const board = document.getElementById("board");
  if (!board || !board.querySelector("thead button")) return;
  const body = board.tBodies[0];
  const heads = [...board.tHead.rows[0].cells];
  const said = document.getElementById("said");
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

  const sort = document.getElementById("sort"), original = [...body.rows];
  sort.addEventListener("change", () => {
    if (sort.value !== "") {
      const head = heads[+sort.value];
      head.removeAttribute("aria-sort");
      head.querySelector("button").click();
    } else {
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      body.append(...original);
    }
  });

  const find = document.getElementById("find"), data = document.getElementById("data");
  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) {
      const text = `${row.dataset.row} ${row.dataset.algorithm}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word)) || (data.value !== "" && row.dataset.regime !== data.value);
    }
    const shown = [...body.rows].filter((row) => !row.hidden).length;
    said.textContent = shown < body.rows.length ? `${shown} of ${body.rows.length} rows shown; ranks are of the whole board.` : "";
  };
  find.addEventListener("input", filter);
  data.addEventListener("change", filter);
  const group = document.getElementById("columns");
  const choose = () => {
    const shown = heads.map((head) => group.value === "all" || head.dataset.groups === "" || head.dataset.groups.split(" ").includes(group.value));
    const apply = () => { for (const row of board.rows) [...row.cells].forEach((cell, index) => { cell.hidden = !shown[index]; }); };
    apply();
    // a number that the frame cuts would read as another: what does not fit is left to its own group
    const frame = board.parentElement;
    if (group.value === "main") for (let k = heads.length - 1; k > 4 && board.scrollWidth > frame.clientWidth && getComputedStyle(board).display === "table"; k--)
      if (shown[k]) { shown[k] = false; apply(); }
  };
  new ResizeObserver(choose).observe(board.parentElement);
  group.addEventListener("change", choose);
  choose();
  document.getElementById("filters").hidden = false;
})();

(function matrix() {
  const choice = document.getElementById("share-of");
  if (!choice) return;
  choice.closest(".tools").hidden = false;
  choice.addEventListener("change", () => { document.getElementById("matrix").dataset.show = choice.value; });
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

document.querySelectorAll(".chart").forEach((root) => {
  const data = JSON.parse(root.querySelector("script").textContent);
  const dashes = ["", "7 3", "2 3", "9 3 2 3"];
  let trained = 0;
  const series = data.rows.map((row) => {
    const index = row.floor ? 0 : trained++;
    return {
      ...row, shown: row.floor || index < 6,
      colour: row.floor ? "var(--floor)" : `var(--c${index % 10})`,
      dash: row.floor ? (data.rows.filter((r) => r.floor).indexOf(row) % 2 ? "1 4" : "4 4") : dashes[Math.floor(index / 6) % 4],
    };
  });
  // a point is [middle, low, high, value on each axis ...]; a level has no value on any
  let axis = 0, first = 0, last = 0, from = 0, to = 0;
  const px = (p) => p[3 + axis] ?? null;
  const measure = () => {
    const all = series.flatMap((s) => s.curve.map(px)).filter((v) => v !== null);
    last = Math.max(...all);
    first = Math.min(...all, ...(data.axes[axis].zero ? [0] : []));
    [from, to] = [first, last];
  };
  measure();
  if (!(last > first)) {
    root.closest("section").hidden = true;
    return;
  }
  const html = (name, attributes, parent, text) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  };
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
  const exact = (x) => {
    if (data.percent) return `${(100 * x).toFixed(0)}%`;
    return Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toPrecision(Math.abs(x) >= 1 && Math.abs(x) < 10 ? 4 : 3));
  };
  const ticks = (low, high, count) => {
    const raw = (high - low) / count || 1;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 2.5, 5, 10].find((m) => m * unit >= raw * 0.999);
    const all = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) all.push(+(k * step).toPrecision(12));
    return all;
  };

  const tools = html("div", { class: "tools" }, root);
  const button = (name, text, act, parent = tools) => {
    const made = html("button", { type: "button", class: name }, parent, text);
    made.addEventListener("click", act);
    return made;
  };
  const redraw = () => { hide(); draw(); };
  if (data.axes.length > 1) {
    const choice = html("select", { class: "axis" }, html("label", {}, tools, "against "));
    data.axes.forEach((a, index) => html("option", { value: index }, choice, a.name));
    choice.addEventListener("change", () => { axis = +choice.value; measure(); redraw(); });
  }
  button("all", "Show all", () => { series.forEach((s) => s.set(true)); redraw(); });
  button("none", "Hide all", () => { series.forEach((s) => s.set(false)); redraw(); });
  const zoom = (share, middle = (from + to) / 2) => {
    const half = Math.min((to - from) * share, last - first) / 2;
    const centre = Math.min(Math.max(middle, first + half), last - half);
    [from, to] = [centre - half, centre + half];
    redraw();
  };
  const whole = () => { [from, to] = [first, last]; redraw(); };
  button("in", "Zoom in", () => zoom(0.5, at ?? undefined));
  const out = button("out", "Whole axis", whole);
  button("save", "Download SVG", save);
  const legend = html("ul", { class: "legend", "aria-label": "Rows shown" }, root);
  const place = html("div", { class: "plot" }, root);
  const tip = html("div", { class: "tip", role: "status", hidden: "" }, root);
  const left = 52, right = 14, top = 26, bottom = 40;
  let svg, view, cross, chosen, at = null;

  function draw() {
    const width = Math.max(place.clientWidth, 280);
    const height = Math.round(Math.min(Math.max(width * 0.46, 260), 460));
    const visible = series.filter((s) => s.shown);
    // what is on the part of the axis that is shown, and the points just outside it
    const near = (curve, k) => [curve[k - 1], curve[k], curve[k + 1]].some((p) => p && px(p) >= from && px(p) <= to);
    const inView = (s) => (s.curve.length < 2 ? s.curve : s.curve.filter((p, k) => px(p) !== null && near(s.curve, k)));
    let points = (visible.length ? visible : series).flatMap(inView);
    if (!points.length) points = series.flatMap((s) => s.curve);
    const middles = points.map((p) => p[0]);
    const range = Math.max(...middles) - Math.min(...middles) || Math.abs(middles[0]) || 1;
    const within = (x) => Math.min(Math.max(x, Math.min(...middles) - 0.5 * range), Math.max(...middles) + 0.5 * range);
    const ends = points.flatMap((p) => [p[0], p[1], p[2]]).filter((x) => x !== null).map(within);
    let low = Math.min(...ends), high = Math.max(...ends);
    if (data.percent) [low, high] = [0, 1];
    const room = 0.04 * (high - low || 1);
    low -= room; high += room;
    const x = (v) => left + ((v - from) / (to - from || 1)) * (width - left - right);
    const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
    view = { x, width, height, value: (px) => ((px - left) / (width - left - right)) * (to - from) + from };
    out.disabled = from === first && to === last;
    place.replaceChildren();
    svg = make("svg", {
      viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", class: visible.length > 6 ? "many" : "",
      "aria-label": `${data.title}: ${visible.length} rows against ${data.axes[axis].name}. Left and right arrow keys read the values, plus and minus zoom, 0 shows all.`,
    }, place);
    const clip = make("clipPath", { id: `${root.id}-frame` }, make("defs", {}, svg));
    make("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom }, clip);
    make("text", { x: 4, y: 12 }, svg, data.score);
    for (const v of ticks(low, high, Math.max(3, Math.floor(height / 70)))) {
      if (data.percent && (v < 0 || v > 1)) continue;
      make("line", { class: v === 0 ? "zero" : "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }, svg);
      make("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, svg, data.percent ? exact(v) : short(v));
    }
    for (const v of ticks(from, to, Math.max(2, Math.floor(width / 130))))
      make("text", { x: x(v), y: height - bottom + 18, "text-anchor": x(v) < left + 12 ? "start" : x(v) > width - right - 12 ? "end" : "middle" }, svg, short(v));
    make("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, svg, data.axes[axis].name);
    const inside = make("g", { "clip-path": `url(#${root.id}-frame)` }, svg);
    for (const s of visible) {
      const group = make("g", { class: "series" }, inside);
      group.dataset.row = s.row;
      s.group = group;
      const level = s.curve.length < 2;
      const path = (level ? [first, last].map((v) => ({ p: s.curve[0], v })) : s.curve.map((p) => ({ p, v: px(p) })))
        .filter((c) => c.v !== null);
      const banded = data.axes[axis].band || level ? path.filter((c) => c.p[1] !== null) : [];
      if (banded.length > 1) {
        const edge = [...banded.map((c) => `${x(c.v)},${y(c.p[2])}`), ...banded.map((c) => `${x(c.v)},${y(c.p[1])}`).reverse()];
        make("polygon", { class: "spread", points: edge.join(" "), style: `fill:${s.colour}` }, group);
      }
      make("polyline", { class: "line", points: path.map((c) => `${x(c.v)},${y(c.p[0])}`).join(" "), style: `stroke:${s.colour}`, "stroke-dasharray": s.dash }, group);
      if (!data.axes[axis].band && !level) path.forEach((c, k) =>
        make("circle", { cx: x(c.v), cy: y(c.p[0]), r: k === path.length - 1 ? 5 : 2.5, style: `fill:${s.colour}` }, group));
    }
    cross = make("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" }, svg);
    chosen = make("rect", { class: "chosen", y: top, height: height - top - bottom, visibility: "hidden" }, svg);
    const valueAt = (event) => {
      const box = svg.getBoundingClientRect();
      const value = view.value((event.clientX - box.left) / box.width * width);
      return Math.min(Math.max(value, from), to);
    };
    let start = null;
    svg.addEventListener("pointerdown", (event) => { if (event.button === 0) start = valueAt(event); });
    svg.addEventListener("pointermove", (event) => {
      const now = valueAt(event);
      read(now);
      if (start === null || Math.abs(x(now) - x(start)) < 6) return;
      svg.setPointerCapture(event.pointerId);
      chosen.setAttribute("x", Math.min(x(start), x(now)));
      chosen.setAttribute("width", Math.abs(x(now) - x(start)));
      chosen.setAttribute("visibility", "visible");
    });
    svg.addEventListener("pointerup", (event) => {
      const begun = start, ended = valueAt(event);
      start = null;
      if (begun === null || Math.abs(x(ended) - x(begun)) < 6) return;
      [from, to] = [Math.min(begun, ended), Math.max(begun, ended)];
      redraw();
    });
    svg.addEventListener("dblclick", whole);
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
      if (step || event.key === "0") {
        event.preventDefault();
        if (step) zoom(step, at ?? undefined); else whole();
        svg.focus();
        return;
      }
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
    .filter((v) => v !== null && v >= from && v <= to).sort((a, b) => a - b);
  function hide() {
    at = null;
    tip.hidden = true;
    cross.setAttribute("visibility", "hidden");
  }
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
    }).filter((item) => away(item.point) <= (to - from) * 0.02)
      .sort((a, b) => b.point[0] - a.point[0]);
    tip.replaceChildren();
    html("strong", {}, tip, `${short(at)} ${data.axes[axis].name}`);
    for (const { s, point } of reads) {
      const line = html("div", {}, tip);
      html("i", {}, line).style.background = s.colour;
      html("span", {}, line, s.row);
      html("span", {}, line, exact(point[0]) + (point[1] === null ? "" : ` [${exact(point[1])}, ${exact(point[2])}]`));
    }
    tip.hidden = false;
    const box = svg.getBoundingClientRect(), outer = root.getBoundingClientRect();
    const spot = box.left - outer.left + view.x(at) / view.width * box.width;
    const side = spot > outer.width / 2 ? spot - tip.offsetWidth - 14 : spot + 14;
    tip.style.left = `${Math.min(Math.max(side, 4), Math.max(outer.width - tip.offsetWidth - 4, 4))}px`;
    tip.style.top = `${box.top - outer.top + 12}px`;
  }
  // a file that needs no style sheet: what the page's rules come to is written out, the legend below
  function save() {
    hide();
    const kept = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "visibility", "font-family", "font-size"];
    const copy = svg.cloneNode(true);
    const originals = [svg, ...svg.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((node, index) => {
      const style = getComputedStyle(originals[index]);
      for (const name of ["class", "style", "tabindex", "data-row"]) node.removeAttribute(name);
      for (const name of kept) node.setAttribute(name, style.getPropertyValue(name));
    });
    const look = getComputedStyle(root), text = getComputedStyle(svg.querySelector("text"));
    let x = left, y = view.height + 18;
    for (const s of series.filter((one) => one.shown)) {
      const long = 34 + 7 * s.row.length;
      if (x > left && x + long > view.width) { x = left; y += 18; }
      const stroke = getComputedStyle(s.group.querySelector("polyline")).stroke;
      make("line", { x1: x, x2: x + 22, y1: y - 4, y2: y - 4, stroke, "stroke-width": 2, "stroke-dasharray": s.dash }, copy);
      make("text", { x: x + 28, y, fill: text.fill, "font-family": text.fontFamily, "font-size": text.fontSize }, copy, s.row);
      x += long + 12;
    }
    const height = y + 12;
    copy.prepend(make("rect", { width: view.width, height, fill: look.backgroundColor }), make("title", {}, null, data.title));
    for (const [name, value] of Object.entries({ viewBox: `0 0 ${view.width} ${height}`, width: view.width, height })) copy.setAttribute(name, value);
    const link = html("a", { download: `${data.file}.svg` });
    link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  for (const s of series) {
    const toggle = button("", undefined, () => { s.set(!s.shown); redraw(); }, html("li", {}, legend));
    toggle.setAttribute("aria-pressed", String(s.shown));
    const key = make("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, toggle);
    make("line", { x1: 0, x2: 22, y1: 4, y2: 4, style: `stroke:${s.colour}`, "stroke-width": 3, "stroke-dasharray": s.dash }, key);
    toggle.appendChild(document.createTextNode(s.row));
    const light = (on) => {
      if (!s.group) return;
      svg.classList.toggle("dim", on && s.shown);
      s.group.classList.toggle("lit", on);
    };
    s.set = (on) => { s.shown = on; toggle.setAttribute("aria-pressed", String(on)); };
    toggle.addEventListener("pointerenter", () => light(true));
    toggle.addEventListener("pointerleave", () => light(false));
    toggle.addEventListener("focus", () => light(true));
    toggle.addEventListener("blur", () => light(false));
  }
  draw();
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) { width = place.clientWidth; redraw(); }
  }).observe(place);
});
