// SPDX-License-Identifier: Apache-2.0
// Heat maps: says what is in the cell under the mouse, or under the cursor that the arrow keys move.
"use strict";
(() => {
  // In a page there is a place for the words; in an SVG file it is made at the top.
  function place() {
    const there = document.getElementById("osmia-cell");
    if (there) return there;
    const svg = document.documentElement;
    const made = document.createElementNS("http://www.w3.org/2000/svg", "text");
    for (const [name, value] of [["class", "cell"], ["id", "osmia-cell"], ["x", "260"], ["y", "22"]]) {
      made.setAttribute(name, value);
    }
    return svg.appendChild(made);
  }

  function start() {
    const said = place();
    for (const cells of document.querySelectorAll("g.cells")) watch(cells, said);
  }

  function watch(cells, said) {
    let here = null;
    function go(rect) {
      if (here) here.classList.remove("here");
      here = rect;
      if (rect) rect.classList.add("here");
      said.textContent = rect ? rect.querySelector("title").textContent : "\u00a0";
    }
    cells.setAttribute("tabindex", "0");
    cells.addEventListener("mouseover", (event) => go(event.target.closest("rect")));
    cells.addEventListener("mouseleave", () => go(null));
    cells.addEventListener("focus", () => { if (!here) go(cells.querySelector("rect")); });
    cells.addEventListener("blur", () => go(null));
    cells.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!way || !here) return;
      event.preventDefault();
      const next = nearest(cells, here, way);
      if (next) go(next);
    });
  }

  // The nearest cell that holds something in the direction of `way`; one on the same line is nearer than any other.
  function nearest(cells, from, [right, down]) {
    const x = Number(from.getAttribute("x")), y = Number(from.getAttribute("y"));
    let best = null, least = Infinity;
    for (const rect of cells.children) {
      const dx = Number(rect.getAttribute("x")) - x, dy = Number(rect.getAttribute("y")) - y;
      const along = dx * right + dy * down, aside = Math.abs(dx * down) + Math.abs(dy * right);
      if (along > 0 && along + 1000 * aside < least) {
        best = rect;
        least = along + 1000 * aside;
      }
    }
    return best;
  }

  document.addEventListener("DOMContentLoaded", start);
})();
