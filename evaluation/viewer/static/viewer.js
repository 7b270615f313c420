// The viewer's own script: light or dark, pages that follow a run, values under the pointer, keys. Everything works
// without it but for these.
"use strict";

const stored = (name, value) => {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch { return null; } // storage is off
};
if (stored("theme")) document.documentElement.dataset.theme = stored("theme");

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  stored("theme", root.dataset.theme);
}

// ---- pages that follow a run: on an event, the page is asked for again and its live parts are exchanged.
let renewing = false, again = false;
async function renew() {
  if (renewing) { again = true; return; }
  renewing = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = answer.ok ? page.getElementById(part.id) : null;
      if (fresh && fresh.innerHTML !== part.innerHTML && !isInUse(part)) exchange(part, fresh);
    }
    if (!answer.ok) tell(page.querySelector("main p")?.textContent || "This page is gone", true);
  } catch { tell("no connection", true); } finally {
    setTimeout(() => { renewing = false; if (again) { again = false; renew(); } }, 700);
  }
}
const isInUse = (part) => part.querySelector(".tip") !== null && part.matches(":hover, :focus-within");
function exchange(part, fresh) {
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const open = [...part.querySelectorAll("details[id][open]")].map((one) => one.id);
  part.replaceChildren(...fresh.childNodes);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
}
function tell(text, lost = false) {
  const live = document.getElementById("live");
  live.hidden = false;
  if (live.textContent !== text) live.textContent = text;
  live.classList.toggle("lost", lost);
}
// A browser opens six connections to one server: a tab that nobody sees gives its own back, or the seventh would wait.
function follow(address) {
  let source = null;
  const close = () => { source?.close(); source = null; };
  const open = (isBack) => {
    source = new EventSource(address);
    source.addEventListener("hello", () => { tell("live"); if (isBack) renew(); });
    source.addEventListener("change", (event) => {
      const now = JSON.parse(event.data);
      tell(now.step == null ? "live" : `live, step ${now.step}`);
      renew();
    });
    source.onerror = () => tell("no connection", true);
  };
  const see = () => { if (document.hidden) close(); else if (!source) open(true); };
  if (!document.hidden) open(false);
  document.addEventListener("visibilitychange", see);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) see(); });
}

// ---- values under the pointer, and by the arrow keys from point to point of a curve that has the focus
function step(svg, by) {
  const [low, high] = JSON.parse(svg.dataset.x), [left, , right] = JSON.parse(svg.dataset.area);
  const xs = JSON.parse(svg.dataset.lines)[0].points.map((point) => left + (point[0] - low) / (high - low) * (right - left));
  const here = svg.querySelector(".cross")?.getAttribute("x1");
  const at = here == null ? (by > 0 ? -1 : xs.length) : xs.findIndex((x) => Math.abs(x - here) < 1e-6);
  read(svg, xs[Math.min(Math.max(at + by, 0), xs.length - 1)]);
}
function read(svg, at) {
  const lines = JSON.parse(svg.dataset.lines), [low, high] = JSON.parse(svg.dataset.x);
  const [left, top, right, bottom] = JSON.parse(svg.dataset.area);
  const step = low + (Math.min(Math.max(at, left), right) - left) / (right - left) * (high - low);
  const nearest = (points) => points.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a);
  const x = nearest(lines[0].points)[0];
  unread(svg);
  const cross = document.createElementNS(svg.namespaceURI, "line");
  const px = left + (x - low) / (high - low) * (right - left);
  for (const [name, value] of [["class", "cross"], ["x1", px], ["x2", px], ["y1", top], ["y2", bottom]]) cross.setAttribute(name, value);
  svg.append(cross);
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  const said = lines.map((line) => `${lines.length > 1 ? line.name + " " : ""}${+nearest(line.points)[1].toPrecision(4)}`);
  tip.textContent = `step ${+x.toPrecision(7)}\n${said.join("\n")}`;
  svg.closest("figure").append(tip);
}
function unread(svg) {
  svg.querySelector(".cross")?.remove();
  svg.closest("figure").querySelector(".tip")?.remove();
}

// ---- parts fetched on demand: coloured tokens
async function fetchPart(link) {
  const answer = await fetch(link.dataset.part);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  document.getElementById("tokens").replaceChildren(...(answer.ok ? page.body.childNodes : page.querySelectorAll("main p")));
  for (const other of link.parentElement.querySelectorAll("a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  history.replaceState(null, "", link.href.split("#")[0]);
}

const told = (page) => page.querySelector("main p")?.textContent || page.body.textContent;

// ---- a question, answered turn by turn
async function ask(form) {
  const place = document.getElementById("asked"), button = form.querySelector("button");
  place.replaceChildren();
  button.disabled = true;
  button.textContent = "Asking …";
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch("/ask", { method: "POST", body, headers: { "x-part": "1" } });
    if (!answer.ok) throw new Error(told(new DOMParser().parseFromString(await answer.text(), "text/html")));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const pieces = (rest + part.value).split("\u001e");
      rest = pieces.pop();
      for (const piece of pieces) place.append(...new DOMParser().parseFromString(piece, "text/html").body.childNodes);
    }
    if (rest.trim()) throw new Error("it broke off");
  } catch (error) {
    const trouble = document.createElement("p");
    trouble.className = "troubles";
    trouble.textContent = `The viewer did not answer: ${error.message}`;
    place.append(trouble);
  } finally {
    button.disabled = false;
    button.textContent = "Ask";
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("ask")?.addEventListener("submit", (event) => { event.preventDefault(); ask(event.target); });
  document.getElementById("theme").addEventListener("click", switchTheme);
  for (const address of new Set([...document.querySelectorAll("[data-live]")].map((part) => part.dataset.live))) follow(address);
  document.addEventListener("pointermove", (event) => {
    const svg = event.target.closest?.("svg.curve");
    for (const other of document.querySelectorAll("svg.curve:has(.cross)")) if (other !== svg && other !== document.activeElement) unread(other);
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    read(svg, (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width);
  });
  document.addEventListener("focusout", (event) => { if (event.target.matches?.("svg.curve")) unread(event.target); });
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-part]");
    if (link && !event.ctrlKey && !event.metaKey) { event.preventDefault(); fetchPart(link); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const curve = event.target.closest?.("svg.curve");
    if (curve && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      step(curve, event.key === "ArrowRight" ? 1 : -1);
      return;
    }
    const rows = [...document.querySelectorAll(".rowlink")], here = rows.indexOf(document.activeElement);
    if (event.key === "/" && document.getElementById("search")) { event.preventDefault(); document.getElementById("search").focus(); }
    else if (event.key === "j" && rows.length) rows[Math.min(here + 1, rows.length - 1)].focus();
    else if (event.key === "k" && rows.length) rows[Math.max(here - 1, 0)].focus();
    else if (event.key === "[") document.getElementById("older")?.click();
    else if (event.key === "]") document.getElementById("newer")?.click();
  });
});
