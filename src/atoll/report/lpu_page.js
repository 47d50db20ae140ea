"use strict";
// Draws what a chip does between two cycles, and lets the reader choose which.
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("canvas");
const tip = document.getElementById("tip");
const shown = document.getElementById("shown");
const LEFT = 190, RIGHT = 16, TOP = 30, BOTTOM = 48, LEAST_CYCLES = 10, LEAST_PIXELS = 2;
const length = data.end - data.begin;
let from = data.begin, to = data.end, dragged = null, marks = [];

const plotWidth = () => Math.max(1, canvas.clientWidth - LEFT - RIGHT);
const x = (cycle) => LEFT + ((cycle - from) / (to - from)) * plotWidth();
const cycleAt = (pixel) => from + ((pixel - LEFT) / plotWidth()) * (to - from);

function show(first, cycles) {
  const span = Math.min(length, Math.max(Math.min(LEAST_CYCLES, length), cycles));
  from = Math.min(Math.max(data.begin, first), data.end - span);
  to = from + span;
  draw();
}

function zoom(factor, cycle) {
  show(cycle - (cycle - from) * factor, (to - from) * factor);
}

// As the still picture does: bars too short to be told apart are one with their neighbours.
function merged(cycles) {
  const found = [];
  let last = null;
  for (const [row, kind, begin, end, share, text] of data.bars) {
    if (end <= from || begin >= to) continue;
    if (last && kind !== "phase" && last.row === row && last.kind === kind && begin - last.end < cycles &&
        Math.min(last.end - last.begin, end - begin) < cycles) {
      const stop = Math.max(end, last.end);
      const used = last.share * (last.end - last.begin) + share * (end - begin);
      last.share = Math.min(1, used / (stop - last.begin));
      last.end = stop;
      last.bursts += 1;
    } else {
      last = { row, kind, begin, end, share, text, bursts: 1 };
      found.push(last);
    }
  }
  return found;
}

function ticks(begin, end, most) {
  const least = (end - begin) / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least * (1 - 1e-9));
  const found = [];
  for (let n = Math.ceil(begin / step - 1e-9); n * step <= end + 1e-9 * step; n++) found.push(n * step);
  return found;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return { ink: of("ink"), muted: of("muted"), grid: of("grid"), behind: of("behind") };
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = TOP + data.height + BOTTOM;
  canvas.style.height = `${height}px`;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "11px 'DejaVu Sans', Verdana, sans-serif";
  const paint = colours();
  drawNames(pen, paint);
  drawScale(pen, paint);
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, plotWidth(), height);
  pen.clip();
  data.fills.forEach((fill) => drawFill(pen, fill));
  drawBars(pen);
  pen.restore();
  const us = (cycle) => `${((cycle * 1e6) / data.hertz).toPrecision(6).replace(/\.?0+$/, "")} µs`;
  shown.textContent = `Cycles ${Math.floor(from)} to ${Math.ceil(to)}, ${us(from)} to ${us(to)}.`;
}

function drawNames(pen, paint) {
  for (const [name, top, height] of data.groups) {
    pen.fillStyle = paint.behind;
    pen.fillRect(LEFT, TOP + top, plotWidth(), height);
    pen.fillStyle = paint.ink;
    pen.textAlign = "left";
    pen.fillText(name, 12, TOP + top + height / 2 + 4);
  }
  pen.fillStyle = paint.muted;
  pen.textAlign = "right";
  for (const [, name, top, height, named] of data.rows) {
    if (named) pen.fillText(name, LEFT - 6, TOP + top + height / 2 + 4);
  }
}

function drawScale(pen, paint) {
  const bottom = TOP + data.height, most = Math.max(2, plotWidth() / 100);
  pen.strokeStyle = paint.grid;
  pen.textAlign = "center";
  pen.fillStyle = paint.ink;
  for (const cycle of ticks(from, to, most)) {
    pen.beginPath();
    pen.moveTo(x(cycle), TOP);
    pen.lineTo(x(cycle), bottom + 5);
    pen.stroke();
    pen.fillText(Number(cycle.toPrecision(12)).toLocaleString("en"), x(cycle), bottom + 18);
  }
  pen.fillText(data.axis, LEFT + plotWidth() / 2, bottom + 38);
  pen.fillStyle = paint.muted;
  const us = 1e6 / data.hertz;
  for (const at of ticks(from * us, to * us, most)) {
    pen.fillText(`${Number(at.toPrecision(8))} µs`, x(at / us), TOP - 12);
    pen.fillRect(x(at / us), TOP - 7, 1, 7);
  }
}

function drawFill(pen, [row, every, shares]) {
  const [, , top, height] = data.rows[row], base = TOP + top + height;
  const first = Math.max(0, Math.floor((from - data.begin) / every));
  const last = Math.min(shares.length, Math.ceil((to - data.begin) / every));
  const joined = Math.max(1, Math.round((last - first) / plotWidth()));
  pen.fillStyle = data.streamColour;
  pen.beginPath();
  pen.moveTo(x(data.begin + first * every), base);
  for (let n = first; n < last; n += joined) {
    const own = shares.slice(n, Math.min(last, n + joined));
    const y = base - (own.reduce((a, b) => a + b, 0) / own.length) * height;
    pen.lineTo(x(data.begin + n * every), y);
    pen.lineTo(x(data.begin + (n + own.length) * every), y);
  }
  pen.lineTo(x(data.begin + last * every), base);
  pen.fill();
}

function drawBars(pen) {
  marks = [];
  for (const bar of merged((LEAST_PIXELS * (to - from)) / plotWidth())) {
    const [, , top, height, , kinds] = data.rows[bar.row];
    const part = height / kinds.length;
    const box = {
      bar, left: x(bar.begin), top: TOP + top + kinds.indexOf(bar.kind) * part,
      width: Math.max(0.6, x(bar.end) - x(bar.begin)), height: part - 0.5,
    };
    pen.globalAlpha = data.palest + (1 - data.palest) * bar.share;
    pen.fillStyle = data.kinds[bar.kind][0];
    // Neighbours of the row of phases are of one colour: a gap between them.
    const isPhase = bar.kind === "phase", gap = isPhase ? Math.min(1, box.width / 2) : 0;
    pen.fillRect(box.left, box.top, box.width - gap, box.height);
    if (isPhase) drawPhaseName(pen, box);
    marks.push(box);
  }
  pen.globalAlpha = 1;
}

function drawPhaseName(pen, { bar, left, top, width, height }) {
  const begin = Math.max(left, LEFT), room = Math.min(left + width, LEFT + plotWidth()) - begin;
  if (pen.measureText(data.texts[bar.text]).width + 4 > room) return;
  pen.fillStyle = "#1f2328";
  pen.textAlign = "center";
  pen.fillText(data.texts[bar.text], begin + room / 2, top + height / 2 + 4);
}

function said(bar) {
  const [group, name] = data.rows[bar.row], words = data.kinds[bar.kind][1];
  const text = data.texts[bar.text], last = bar.end - 1;
  const when = last === bar.begin ? `cycle ${last}` : `cycles ${bar.begin} to ${last}`;
  const what = bar.bursts > 1 ? `${bar.bursts} instructions (${words}), the first: ${text}` : text;
  return `${[group, name, when].filter(Boolean).join(", ")}: ${what}`;
}

function point(event) {
  const px = event.offsetX, py = event.offsetY;
  const hit = px < LEFT ? undefined : marks.find((m) => py >= m.top && py <= m.top + m.height &&
    px >= m.left - 1 && px <= m.left + m.width + 1);
  tip.style.display = hit ? "block" : "none";
  if (!hit) return;
  tip.textContent = said(hit.bar);
  tip.style.left = `${Math.max(0, Math.min(px + 12, canvas.clientWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${py + 16}px`;
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    show(from + ((event.deltaX || event.deltaY) / plotWidth()) * (to - from), to - from);
  } else {
    zoom(Math.exp(event.deltaY * 0.0015), cycleAt(Math.max(LEFT, event.offsetX)));
  }
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => {
  dragged = { px: event.offsetX, from };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!dragged) return point(event);
  tip.style.display = "none";
  show(dragged.from - ((event.offsetX - dragged.px) / plotWidth()) * (to - from), to - from);
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { dragged = null; });
canvas.addEventListener("pointerleave", () => { tip.style.display = "none"; });
const middle = () => (from + to) / 2;
const actions = {
  "+": () => zoom(0.5, middle()), "=": () => zoom(0.5, middle()),
  "-": () => zoom(2, middle()), "0": () => show(data.begin, length),
  ArrowLeft: () => show(from - (to - from) / 5, to - from),
  ArrowRight: () => show(from + (to - from) / 5, to - from),
};
document.addEventListener("keydown", (event) => {
  const action = actions[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});
document.getElementById("closer").addEventListener("click", actions["+"]);
document.getElementById("farther").addEventListener("click", actions["-"]);
document.getElementById("whole").addEventListener("click", actions["0"]);
document.getElementById("live").hidden = false;
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
