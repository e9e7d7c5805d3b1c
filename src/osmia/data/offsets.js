// SPDX-License-Identifier: Apache-2.0
// Subsecond-offset heat maps: choose a range of time, see the flame graph of the samples in it.
"use strict";
(() => {
  class Offsets {
    constructor(svg, data, flame) {
      this.svg = svg;
      this.flame = flame;
      this.rows = data.rows;
      this.cells = data.seconds * data.rows;
      this.clock = data.clock;
      this.tree = data;
      this.times = data.times;
      let now = 0;
      for (let n = 0; n < this.times.length; n += 1) this.times[n] = now += this.times[n];  // µs since the first second
      this.size = 1e6 / this.rows;
      this.counts = new Map();
      for (const at of this.times) {
        const cell = Math.floor(at / this.size);
        this.counts.set(cell, (this.counts.get(cell) || 0) + 1);
      }
      for (const name of ["left", "top", "across", "up"]) this[name] = Number(svg.dataset[name]);
      this.cursor = 0;
      this.anchor = null;
      this.controls(document.getElementById("osmia-range"));
      this.listen();
      this.whole();
    }

    controls(bar) {
      const add = (name, attributes, text) => bar.appendChild(osmia.element(osmia.HTML, name, attributes, text));
      const field = { type: "number", min: 0, max: this.cells * this.size / 1e6, step: "any" };
      add("label", {}, "from second");
      this.from = add("input", { ...field, id: "osmia-from", "aria-label": "from second" });
      add("label", {}, "to");
      this.to = add("input", { ...field, id: "osmia-to", "aria-label": "to second" });
      this.all = add("button", { type: "button" }, "Whole");
      this.said = add("output", { class: "chosen", "aria-live": "polite" });
    }

    listen() {
      const cell = (event) => {
        const at = this.svg.getBoundingClientRect();
        const column = Math.floor((event.clientX - at.left - this.left) / this.across);
        const row = this.rows - 1 - Math.floor((event.clientY - at.top - this.top) / this.up);
        const inside = column >= 0 && column < this.cells / this.rows && row >= 0 && row < this.rows;
        return inside ? column * this.rows + row : null;
      };
      this.svg.addEventListener("mousedown", (event) => {
        this.anchor = cell(event);
        event.preventDefault();
        this.svg.focus();
      });
      this.svg.addEventListener("mousemove", (event) => {
        const at = cell(event);
        if (at === null) return;
        this.point(at);
        if (this.anchor !== null && event.buttons) this.mark(...this.between(this.anchor, at));
      });
      window.addEventListener("mouseup", (event) => {
        if (this.anchor === null) return;
        const at = cell(event);
        if (at !== null) this.choose(...this.between(this.anchor, at));
        else this.mark(this.first, this.last);
        this.anchor = null;
      });
      this.svg.addEventListener("keydown", (event) => this.key(event));
      for (const input of [this.from, this.to]) input.addEventListener("change", () => this.typed(input));
      this.all.addEventListener("click", () => this.whole());
    }

    key(event) {
      const step = { ArrowLeft: -this.rows, ArrowRight: this.rows, ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (step === undefined && event.key !== "Enter") return;
      event.preventDefault();
      event.stopPropagation();
      if (step === undefined) {
        this.choose(this.cursor * this.size, (this.cursor + 1) * this.size);
        return;
      }
      const before = this.cursor, next = before + step;
      if (next < 0 || next >= this.cells) return;
      this.point(next);
      if (!event.shiftKey) {
        this.held = null;
        return;
      }
      if (this.held === null || this.held === undefined) this.held = before;
      this.choose(...this.between(this.held, next));
    }

    between(one, other) {
      return [Math.min(one, other) * this.size, (Math.max(one, other) + 1) * this.size];
    }

    point(cell) {
      this.cursor = cell;
      const column = Math.floor(cell / this.rows), row = cell % this.rows, count = this.counts.get(cell) || 0;
      this.svg.querySelector(".at").setAttribute("d", this.box(column, row, row + 1));
      const offset = (n) => (n * 1000 / this.rows).toFixed(0);
      document.getElementById("osmia-cell").textContent =
        `${this.clock[column]} (second ${column}), ${offset(row)} to ${offset(row + 1)} ms: ` +
        `${osmia.number.format(count)} samples, ${osmia.percent(count, this.times.length)}`;
    }

    box(column, low, high) {
      const x = column * this.across, y = (this.rows - high) * this.up;
      return `M${x} ${y}h${this.across}v${(high - low) * this.up}h${-this.across}z`;
    }

    // Show which cells lie between two times (µs).
    mark(first, last) {
      let path = "";
      if (first > 0 || last < this.cells * this.size) {
        const low = Math.floor(first / this.size), high = Math.ceil(last / this.size);
        for (let column = Math.floor(low / this.rows); column * this.rows < high; column += 1) {
          const base = column * this.rows;
          path += this.box(column, Math.max(0, low - base), Math.min(this.rows, high - base));
        }
      }
      this.svg.querySelector(".chosen").setAttribute("d", path);
    }

    choose(first, last) {
      this.first = first;
      this.last = last;
      this.mark(first, last);
      this.from.value = first / 1e6;
      this.to.value = last / 1e6;
      const own = new Float64Array(this.tree.parents.length);
      let low = this.index(first), high = this.index(last);
      for (let n = low; n < high; n += 1) own[this.tree.nodes[n]] += 1;
      this.said.textContent = `${osmia.number.format(high - low)} of ${osmia.number.format(this.times.length)} samples`;
      this.flame.show(this.tree, own);
    }

    // The number of samples before `at`.
    index(at) {
      let low = 0, high = this.times.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.times[middle] < at) low = middle + 1;
        else high = middle;
      }
      return low;
    }

    // One end was typed; where it lies beyond the other, the other gives way.
    typed(input) {
      const end = this.cells * this.size;
      const time = (one) => Math.min(Math.max(Number(one.value) * 1e6 || 0, 0), end);
      const first = time(this.from), last = time(this.to);
      if (first <= last) this.choose(first, last);
      else if (input === this.from) this.choose(first, end);
      else this.choose(0, last);
    }

    whole() {
      this.choose(0, this.cells * this.size);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const svg = document.getElementById("osmia-offsets");
    osmia.offsets = new Offsets(svg, JSON.parse(document.getElementById("osmia-data").textContent), osmia.flame);
  });
})();
