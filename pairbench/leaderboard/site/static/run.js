"use strict";
// One run, by the beginning of its identity after the # of the address. Its board's file calls
// pairbench(kind, text) line by line: the board, then each row followed by its runs.
(() => {
  const homes = new Map();
  let board = null, row = null, wanted = "";
  const known = {
    runs: ({ stem, runs }) => runs.forEach((run) => homes.set(run, stem)),
    board: (data) => { board = data; },
    row: (data) => { row = data; },
    run: (data) => { if (data.id.startsWith(wanted)) show(data, row); },
  };
  window.pairbench = (kind, text) => known[kind](JSON.parse(text));

  const root = document.getElementById("run");
  const add = (parent, name, attributes, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
    node.append(...children.map(String));
    return parent.appendChild(node);
  };
  const number = (x) => {
    if (x === Math.trunc(x) || Math.abs(x) >= 100) return (x + 0).toFixed(0);
    if (Math.abs(x) < 1e-4) return x.toExponential(2);
    return x.toPrecision(Math.abs(x) >= 1 && Math.abs(x) < 10 ? 4 : 3);
  };
  const words = (name) => name.replaceAll("_", " ");
  const list = (entries, parent = root) => {
    const all = add(parent, "dl");
    for (const [name, value, code] of entries) {
      add(all, "dt", {}, name);
      code ? add(add(all, "dd"), "code", {}, value) : add(all, "dd", {}, value);
    }
    return all;
  };
  const folded = (title, text) => {
    const all = add(root, "details");
    add(all, "summary", {}, title);
    const inside = add(all, "div");
    add(inside, "pre", { tabindex: 0 }, text);
    return inside;
  };
  // thin lines from the least to the largest value, over equal parts; gaps stay gaps
  const picture = (parent, values) => {
    const height = 20, there = values.filter((v) => v !== null);
    const low = Math.min(...there), width = Math.max(...there) - low || Math.abs(low) || 1;
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
    const shape = { class: "strip", viewBox: `0 0 ${Math.max(values.length - 1, 1)} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    for (const [key, value] of Object.entries(shape)) svg.setAttribute(key, value);
    path.setAttribute("d", values.map((v, k) => v === null ? "" :
      `${k > 0 && values[k - 1] !== null ? "L" : "M"}${k} ${(height * (0.95 - 0.9 * (v - low) / width)).toFixed(1)}`).join(""));
    svg.append(path);
    parent.append(svg);
  };

  function show(run, row) {
    const name = `${row.row}, seed ${run.seed}`;
    document.title = `${name}, ${board.title} · PairBench`;
    const home = document.getElementById("home");
    home.replaceChildren(" / ");
    add(home, "a", { href: `${encodeURIComponent(board.stem)}.html#row-${row.configuration.slice(0, 12)}` }, board.title);
    root.replaceChildren();
    add(root, "h1", {}, name);
    const line = add(root, "p", { class: "soft" }, `A ${run.status} run of `);
    add(line, "a", { href: row.page }, row.algorithm);
    line.append(`${row.regime ? ` (${row.regime})` : ""} on ${board.task} version ${board.version}, run `);
    add(line, "code", {}, run.id.slice(0, 16));
    if (run.reason) {
      const note = add(root, "p", { class: "caveat", role: "note" });
      if (run.status === "failed") add(note, "span", { class: "status" }, "failed ");
      note.append(run.reason);
    }
    const scores = Object.entries(run.scores), measures = Object.entries(run.measures);
    if (scores.length) {
      add(root, "h2", {}, "Scores on the held-out contexts");
      list([
        ...scores.map(([way, x], k) => [way, number(x) + (k === 0 ? " (ranks)" : "")]),
        ...measures.map(([name, x]) => [board.measures[name] ?? words(name), number(x)]),
      ]);
    }
    if (run.curve.length > 1) {
      add(root, "h2", {}, "Learning curve");
      const curve = add(root, "div", { class: "curve" }), rewards = run.curve.map((point) => point[3]);
      const ends = [Math.max(...rewards), Math.min(...rewards)].map(number);
      add(curve, "span", { class: "interval high" }, ends[0]);
      add(curve, "span", { class: "interval low" }, ends[1]);
      picture(curve, rewards);
      const below = add(curve, "span", { class: "interval ends" });
      for (const text of [number(run.curve[0][0]), `${run.ways[0]} against ${board.unit}`, number(run.curve.at(-1)[0])]) add(below, "span", {}, text);
      const table = add(add(root, "div", { class: "wide", role: "region", "aria-label": "Learning curve", tabindex: 0 }), "table", { class: "whole" });
      const head = add(add(table, "thead"), "tr");
      for (const title of [board.unit, "labels", "updates", ...run.ways]) add(head, "th", { scope: "col" }, title);
      const body = add(table, "tbody");
      for (const point of run.curve) {
        const line = add(body, "tr");
        point.forEach((x, k) => add(line, "td", {}, x === null ? "" : k < 3 ? x : number(x)));
      }
    }
    if (run.series.length) {
      add(root, "h2", {}, "How steadily");
      add(root, "p", { class: "soft" }, `Over the iterations, averaged in ${run.series[0][3].length} equal parts; beside each the least and largest single value.`);
      const all = add(root, "dl", { class: "strips" });
      for (const [k, low, high, parts] of run.series) {
        add(all, "dt", {}, board.series[k]);
        const place = add(all, "dd");
        picture(place, parts);
        add(place, "span", { class: "interval" }, `${number(+low.toPrecision(3))} to ${number(+high.toPrecision(3))}`);
      }
    }
    add(root, "h2", {}, "Run it again");
    if (run.status === "finished") {
      const data = run.hashes.texts ? " Its task needs its data: name their folder by --data-dir, or in PAIRBENCH_DATA." : "";
      add(root, "p", {}, `Where the results folder lies, with the code that is installed; exit status 0 says that the same numbers came back.${data}`);
      add(root, "pre", { tabindex: 0 }, run.again);
      for (const mark of run.marks) add(root, "p", {}, mark);
    }
    const inside = folded("Without the record: every setting spelled out", row.command.join(run.seed));
    if (row.tuning) {
      const line = add(inside, "p", {}, `Settings found by a search of ${row.tuning.trials} trials: the search is part of this run's identity but no setting, so that the command gives the same numbers under another identity. The suite that `);
      add(line, "code", {}, "pairbench tune");
      line.append(` wrote (study ${row.tuning.study.slice(0, 16)}) gives both.`);
    }
    add(root, "h2", {}, "Settings");
    add(add(root, "p", { class: "soft" }, "Digest "), "code", {}, row.configuration);
    folded(row.algorithm, JSON.stringify(row.settings, null, 1));
    folded(board.task, JSON.stringify(board.settings, null, 1));
    add(root, "h2", {}, "What it cost");
    list(Object.entries(run.cost).map(([name, x]) => [name === "steps" ? board.unit : words(name), number(x)]));
    add(root, "h2", {}, "Where it is from");
    list([
      ["identity", run.id, true],
      ...Object.entries(run.hashes).map(([name, hash]) => [`SHA-256 of ${name}`, hash, true]),
      ...run.facts.map((k) => board.facts[k]),
    ]);
  }

  function open() {
    wanted = decodeURIComponent(location.hash.slice(1));
    const stem = homes.get(wanted.slice(0, 16));
    if (!/^[0-9a-f]{16,64}$/.test(wanted) || stem === undefined) {
      root.replaceChildren();
      add(root, "h1", {}, "A run");
      add(root, "p", {}, wanted ? "No board here has a run of that identity." : "Choose a run from its row on a board.");
      return;
    }
    document.getElementById("data")?.remove();
    add(document.head, "script", { id: "data", src: `runs/${encodeURIComponent(stem)}.js` });
  }
  addEventListener("hashchange", open);
  addEventListener("DOMContentLoaded", open);
})();
