/* What the pages need beyond HTML: keys, calm live updates, quick sums. No inline code anywhere. */
"use strict";

/* "/" finds; Escape leaves the field. */
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const find = document.getElementById("q");
    if (find) { event.preventDefault(); find.focus(); find.select(); }
  }
  if (event.key === "Escape" && typing) document.activeElement.blur();
});

/* Arrow keys walk the windows of the board by where they are drawn, and the rows of a list. */
document.addEventListener("keydown", (event) => {
  const here = document.activeElement;
  const window_ = here.closest && here.closest(".win");
  const row = here.closest && here.closest("table.rows tbody tr, .todo > li");
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || event.altKey || event.ctrlKey || event.metaKey) return;
  if (window_) { event.preventDefault(); nearest(window_, way)?.focus(); }
  else if (row && way[1]) {
    const next = way[1] > 0 ? row.nextElementSibling : row.previousElementSibling;
    const link = next && next.querySelector("a");
    if (link) { event.preventDefault(); link.focus(); }
  }
});

function nearest(from, [dx, dy]) {
  const centre = (box) => [box.left + box.width / 2, box.top + box.height / 2];
  const [x, y] = centre(from.getBoundingClientRect());
  let best = null, bestCost = Infinity;
  for (const other of document.querySelectorAll(".win")) {
    if (other === from) continue;
    const [ox, oy] = centre(other.getBoundingClientRect());
    const along = dx ? (ox - x) * dx : (oy - y) * dy;
    const across = Math.abs(dx ? oy - y : ox - x);
    if (along < 4 || (dx && across > 8)) continue;
    const cost = along + across * 3;
    if (cost < bestCost) { best = other; bestCost = cost; }
  }
  return best;
}

/* A live update never moves a row under the pointer or the focus: such a part waits until it is left. */
const rows = (node) => [...node.querySelectorAll("[data-row]")].map((row) => row.dataset.row).join();
if (window.Idiomorph) {
  /* What somebody is typing is newer than any answer. */
  Idiomorph.defaults.ignoreActiveValue = true;
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, fresh) => {
    if (!(old instanceof Element) || !(fresh instanceof Element)) return true;
    /* What was fetched into a page is not in the page's own answer: it stays. */
    if ("kept" in old.dataset) return false;
    if (old.tagName === "DETAILS" && old.open) fresh.setAttribute("open", "");
    /* A part of a form that somebody closed stays closed, unless a field in it is refused. */
    if (old.tagName === "DETAILS" && !old.open && old.closest("#builder") && !fresh.querySelector("[aria-invalid]")) fresh.removeAttribute("open");
    const held = "steady" in old.dataset && old.matches(":hover, :focus-within") && rows(old) !== rows(fresh);
    if (held) old.dataset.waiting = "";
    return !held;
  };
}
document.addEventListener("pointerout", (event) => {
  const part = event.target.closest && event.target.closest("[data-waiting]");
  if (part && !part.contains(event.relatedTarget)) {
    delete part.dataset.waiting;
    document.body.dispatchEvent(new CustomEvent("prewatt:settled"));
  }
});

/* When the live connection is lost, say so; figures on the page are then as old as they say. */
document.addEventListener("htmx:sseError", () => document.documentElement.setAttribute("data-stale", ""));
document.addEventListener("htmx:sseOpen", () => document.documentElement.removeAttribute("data-stale"));

/* A chart wider than the screen begins at its end: now, and what comes next. */
document.addEventListener("DOMContentLoaded", () => {
  for (const chart of document.querySelectorAll(".chart-wide:not(.from-start)")) chart.scrollLeft = chart.scrollWidth;
});

/* On a narrow screen the bar is wider than the page: show where one is. */
document.addEventListener("DOMContentLoaded", () => {
  for (const here of document.querySelectorAll("nav [aria-current]")) {
    const bar = here.closest("nav");
    bar.scrollLeft = here.getBoundingClientRect().left - bar.getBoundingClientRect().left - bar.clientWidth / 3;
  }
});

/* A deed is sent once: its key makes a second sending harmless, and this makes it needless. */
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]") || event.submitter?.value !== "confirm") return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
});
window.addEventListener("pageshow", () => { for (const form of document.querySelectorAll("[data-sent]")) delete form.dataset.sent; });

/* A click elsewhere closes the menu. */
document.addEventListener("click", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (menu && !menu.contains(event.target)) menu.open = false;
});
