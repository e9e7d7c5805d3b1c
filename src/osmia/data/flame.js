// SPDX-License-Identifier: Apache-2.0
// Flame graphs: zoom, search, details, keyboard.  Works on the boxes that stand in the document
// (<g class="f" data-v="start total own [before]">), in an SVG file and in a page alike.
"use strict";
const osmia = (() => {
  const SVG = "http://www.w3.org/2000/svg", HTML = "http://www.w3.org/1999/xhtml";
  const ROW = 17, CHAR = 7.25, NARROW = 0.3, NARROWEST = 1 / 12000, LIMIT = 25000;
  const number = new Intl.NumberFormat("en-US");

  function element(space, name, attributes = {}, text = "") {
    const made = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }

  function percent(part, whole) {
    if (!whole) return "0 %";
    const share = 100 * part / whole;
    return (!part || share >= 0.01 ? share.toFixed(2) : share.toPrecision(2)) + " %";
  }

  // As much of a name as fits into so many pixels.
  function label(name, width) {
    let room = Math.floor((width - 6) / CHAR);
    if (room < 3) return "";
    for (const char of name.slice(0, room)) if (char.codePointAt(0) >= 0x1100) room -= 1;
    if (name.length <= room) return name;
    return room >= 3 ? name.slice(0, room - 2) + ".." : "";
  }

  // A pattern without capitals ignores case.
  function expression(pattern) {
    return new RegExp(pattern, /\p{Lu}/u.test(pattern) ? "u" : "iu");
  }

  // Rows of boxes for counts by node, as osmia.views.flame lays them out: parents come before their children.
  function boxesOf(tree, own) {
    const totals = Array.from(own);
    for (let n = totals.length - 1; n > 0; n -= 1) totals[tree.parents[n]] += totals[n];
    let least = Math.max(1, Math.ceil(totals[0] * NARROWEST));
    const wide = totals.filter((total) => total >= least).sort((a, b) => b - a);
    if (wide.length > LIMIT) least = wide[LIMIT - 1] > wide[LIMIT] ? wide[LIMIT - 1] : wide[LIMIT] + 1;
    const below = new Map();
    for (let n = 1; n < totals.length; n += 1) {
      if (totals[n] < least) continue;
      const siblings = below.get(tree.parents[n]);
      if (siblings) siblings.push(n);
      else below.set(tree.parents[n], [n]);
    }
    const box = (node, start) => {
      const [name, style, kind] = tree.frames[tree.of[node]];
      return { node, name, style, kind, start, total: totals[node], own: own[node] };
    };
    const name = (node) => tree.frames[tree.of[node]][0];
    const rows = [];
    for (let row = [box(0, 0)]; row.length; ) {
      rows.push(row);
      const following = [];
      for (const parent of row) {
        let start = parent.start;
        const nodes = (below.get(parent.node) || []).sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : a - b));
        for (const node of nodes) {
          following.push(box(node, start));
          start += totals[node];
        }
      }
      row = following;
    }
    return rows;
  }

  class Flame {
    // `svg` holds the rows; `bar` is the element for the controls.
    constructor(svg, bar) {
      this.svg = svg;
      this.total = Number(svg.dataset.total);
      this.totalBefore = Number(svg.dataset.before || 0);
      this.unit = svg.dataset.unit;
      this.top = Number(svg.dataset.top);
      this.icicle = svg.dataset.icicle === "1";
      this.pattern = null;
      this.read();
      this.controls(bar);
      this.listen();
      this.zoom(this.root);
    }

    read() {
      this.rows = [...this.svg.querySelectorAll("g.row")].map((g) => ({ g, boxes: [] }));
      this.of = new Map();
      this.rows.forEach((row, depth) => {
        let above = 0;
        for (const g of row.g.children) {
          const [start, total, own, before] = g.dataset.v.split(" ").map(Number);
          const title = g.querySelector("title").textContent;
          const end = title.lastIndexOf("\n");
          const box = { g, rect: g.querySelector("rect"), text: g.querySelector("text"), start, total, own, before, depth,
            name: title.slice(0, end), details: title.slice(end + 1), parent: null, at: row.boxes.length, found: false };
          if (depth) {
            const parents = this.rows[depth - 1].boxes;
            while (parents[above].start + parents[above].total <= start) above += 1;
            box.parent = parents[above];
          }
          row.boxes.push(box);
          this.of.set(g, box);
        }
      });
      this.root = this.rows[0].boxes[0];
    }

    // Show other counts: `own` by node of `tree` (parents, of: number of the frame, frames: [name, class, kind]).
    show(tree, own) {
      const rows = boxesOf(tree, own);
      this.total = rows[0][0].total;
      this.svg.dataset.total = this.total;
      const holder = this.svg.querySelector("g.rows");
      holder.textContent = "";
      for (const row of rows) {
        const g = holder.appendChild(element(SVG, "g", { class: "row" }));
        for (const box of row) g.appendChild(this.made(box));
      }
      this.entry = null;
      this.read();
      this.svg.setAttribute("height", this.top + ROW * rows.length + 8);
      this.base = this.root;
      this.search(this.input.value);
      this.zoom(this.root);
      this.tell(null);
    }

    made(box) {
      const kind = box.kind ? ", " + box.kind : "";
      const details = `${number.format(box.total)} ${this.unit}, ${percent(box.total, this.total)}${kind}`;
      const g = element(SVG, "g", { class: "f " + box.style, "data-v": `${box.start} ${box.total} ${box.own}` });
      g.appendChild(element(SVG, "title", {}, box.name + "\n" + details));
      g.appendChild(element(SVG, "rect", { height: ROW - 1 }));
      return g;
    }

    controls(bar) {
      const add = (name, attributes, text) => bar.appendChild(element(HTML, name, attributes, text));
      bar.setAttribute("class", "osmia-bar");
      this.input = add("input", { type: "search", placeholder: "search (regex), key /",
        "aria-label": "search frames" });
      this.back = add("button", { type: "button", title: "Escape" }, "Reset");
      this.turn = add("button", { type: "button", title: "i" }, "Turn over");
      this.matched = add("output", { class: "matched", "aria-live": "polite" });
      this.shown = add("output", { class: "details", "aria-live": "polite" });
    }

    listen() {
      const box = (event) => this.of.get(event.target.closest("g.f"));
      this.svg.addEventListener("click", (event) => { const one = box(event); if (one) { this.zoom(one); this.focus(one); } });
      this.svg.addEventListener("mouseover", (event) => this.tell(box(event)));
      this.svg.addEventListener("mouseleave", () => this.tell(null));
      this.svg.addEventListener("focusin", (event) => { this.tell(box(event)); });
      this.input.addEventListener("input", () => this.search(this.input.value));
      this.back.addEventListener("click", () => this.reset());
      this.turn.addEventListener("click", () => this.flip());
      document.addEventListener("keydown", (event) => this.key(event));
      window.addEventListener("resize", () => this.draw());
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.svg.isConnected) return;
      if (event.key === "Escape") { this.reset(); return; }
      if (event.target === this.input || /^(input|textarea|select)$/i.test(event.target.localName || "")) return;
      const at = this.of.get(document.activeElement);
      const down = this.icicle ? "ArrowUp" : "ArrowDown", up = this.icicle ? "ArrowDown" : "ArrowUp";
      let to = null;
      if (event.key === "/") this.input.focus();
      else if (event.key === "i") this.flip();
      else if (!at) return;
      else if (event.key === "Enter" || event.key === " ") this.zoom(at);
      else if (event.key === down) to = at.parent;
      else if (event.key === up) to = this.widest(at);
      else if (event.key === "ArrowLeft") to = this.beside(at, -1);
      else if (event.key === "ArrowRight") to = this.beside(at, 1);
      else return;
      event.preventDefault();
      if (to) this.focus(to);
    }

    // The widest frame that `box` called.
    widest(box) {
      let best = null;
      const row = this.rows[box.depth + 1];
      if (row) for (const one of row.boxes) if (one.parent === box && (!best || one.total > best.total)) best = one;
      return best;
    }

    // The next visible frame in the same row.
    beside(box, step) {
      const boxes = this.rows[box.depth].boxes;
      for (let n = box.at + step; n >= 0 && n < boxes.length; n += step) if (boxes[n].visible) return boxes[n];
      return null;
    }

    focus(box) {
      if (this.entry) this.entry.g.setAttribute("tabindex", "-1");
      this.entry = box;
      box.g.setAttribute("tabindex", "0");
      box.g.focus();
    }

    tell(box) {
      this.shown.textContent = box ? box.name + ": " + box.details + "; own: " + number.format(box.own) : "";
    }

    // Show `box` at full width, what it called, and its callers.
    zoom(box) {
      this.base = box;
      if (!this.entry) { this.entry = box; box.g.setAttribute("tabindex", "0"); }
      this.draw();
      this.count();
    }

    reset() {
      this.input.value = "";
      this.search("");
      this.zoom(this.root);
    }

    flip() {
      this.icicle = !this.icicle;
      this.draw();
    }

    width() {
      const room = this.svg.parentNode.clientWidth || window.innerWidth || 1200;
      return Math.max(300, room);
    }

    draw() {
      const width = this.width(), base = this.base, scale = width / (base.total || 1), end = base.start + base.total;
      this.svg.setAttribute("width", width);
      const depth = this.rows.length;
      this.rows.forEach((row, level) => {
        const at = this.icicle ? level : depth - 1 - level;
        row.g.setAttribute("transform", `translate(0,${this.top + ROW * at})`);
        for (const box of row.boxes) {
          const above = level < base.depth && box.start <= base.start && box.start + box.total >= end;
          const inside = level >= base.depth && box.start >= base.start && box.start + box.total <= end;
          const x = above ? 0 : (box.start - base.start) * scale;
          this.place(box, above || inside, x, above ? width : box.total * scale);
          box.g.classList.toggle("above", above);
        }
      });
    }

    place(box, within, x, width) {
      box.visible = within && (width >= NARROW || box === this.base);
      box.g.style.display = box.visible ? "" : "none";
      if (!box.visible) return;
      box.rect.setAttribute("x", x.toFixed(2));
      box.rect.setAttribute("width", (width > 3 ? width - 0.5 : width).toFixed(2));
      const shown = label(box.name, width);
      if (!shown) {
        if (box.text) box.text.textContent = "";
        return;
      }
      if (!box.text) box.text = box.g.appendChild(element(SVG, "text", { y: 12 }));
      box.text.setAttribute("x", (x + 3).toFixed(1));
      box.text.textContent = shown;
    }

    search(pattern) {
      let wanted = null, wrong = "";
      try {
        wanted = pattern ? expression(pattern) : null;
      } catch (error) {
        wrong = error.message;
      }
      this.input.setAttribute("aria-invalid", wrong ? "true" : "false");
      for (const row of this.rows) for (const box of row.boxes) {
        box.found = wanted !== null && box !== this.root && wanted.test(box.name);
        box.g.classList.toggle("found", box.found);
      }
      this.pattern = wanted;
      this.count();
      if (wrong) this.matched.textContent = wrong;
    }

    // The share of what is shown that lies in frames which match; one inside another counts once.
    count() {
      if (!this.pattern) {
        this.matched.textContent = "";
        return;
      }
      const base = this.base, end = base.start + base.total;
      let sum = 0, frames = 0;
      for (const row of this.rows) for (const box of row.boxes) {
        box.covered = box.parent !== null && (box.parent.covered || box.parent.found) && box.depth > base.depth;
        if (!box.found || box.depth < base.depth || box.start < base.start || box.start + box.total > end) continue;
        frames += 1;
        if (!box.covered) sum += box.total;
      }
      this.matched.textContent = `matched: ${percent(sum, base.total)} in ${number.format(frames)} frames`;
    }
  }

  // The controls of an SVG file stand in the picture itself.
  function barInside(svg) {
    const holder = svg.appendChild(element(SVG, "foreignObject", { x: 10, y: 32, width: "98%", height: 28 }));
    return holder.appendChild(element(HTML, "div"));
  }

  function start() {
    const svg = document.querySelector("svg.osmia-flame");
    if (svg && svg.querySelector("g.f")) {
      osmia.flame = new Flame(svg, document.getElementById("osmia-bar") || barInside(svg));
    }
  }

  document.addEventListener("DOMContentLoaded", start);
  return { Flame, element, percent, label, number, SVG, HTML, flame: null };
})();
