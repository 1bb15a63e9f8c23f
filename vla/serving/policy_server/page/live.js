// Draws what /live.json says, four times a second while the page can be seen.
"use strict";

const PERIOD_MS = 250;
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);
let shown = 0;
let client = "";

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function drawFrames(frames) {
  const place = at("frames");
  if (place.children.length !== frames.length) {
    place.replaceChildren(...frames.map(() => {
      const figure = document.createElement("figure");
      figure.append(document.createElement("img"), document.createElement("figcaption"));
      return figure;
    }));
  }
  frames.forEach((frame, i) => {
    const [image, caption] = place.children[i].children;
    const text = frame.age ? `${frame.camera}, ${frame.age} before` : frame.camera;
    image.src = frame.jpeg;
    image.alt = text;
    caption.textContent = text;
  });
}

function drawLine(values) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 -1.1 100 2.2");
  svg.setAttribute("preserveAspectRatio", "none");
  const zero = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: 100, y1: 0, y2: 0, "vector-effect": "non-scaling-stroke" })) {
    zero.setAttribute(name, value);
  }
  const line = document.createElementNS(SVG, "polyline");
  const width = 100 / values.length;
  const clip = (value) => Math.max(-1, Math.min(1, value));
  const steps = values.flatMap((value, i) => [`${i * width},${-clip(value)}`, `${(i + 1) * width},${-clip(value)}`]);
  line.setAttribute("points", steps.join(" "));
  svg.append(zero, line);
  return svg;
}

function drawChunk(actions, names) {
  const rows = names.map((name, d) => {
    const row = document.createElement("div");
    row.className = "row";
    element("span", name, row);
    const values = actions.map((action) => action[d]);
    row.append(drawLine(values));
    element("span", values[0].toFixed(3), row);
    return row;
  });
  at("chunk").replaceChildren(...rows);
}

function drawClients(clients) {
  const choice = at("client");
  const known = ["", ...clients];
  choice.hidden = clients.length < 2;
  if ([...choice.options].map((option) => option.value).join("\n") === known.join("\n")) return;
  choice.replaceChildren(...known.map((name) => new Option(name || "newest", name)));
  choice.value = known.includes(client) ? client : "";
}

function draw(found) {
  at("policy").textContent = found.policy;
  document.title = found.policy;
  at("waiting").textContent = found.waiting;
  drawClients(found.clients);
  if (!found.frames) return;
  shown = found.number;
  at("instruction").textContent = found.instruction;
  at("number").textContent = found.number;
  at("infer").textContent = `${found.infer_ms.toFixed(1)} ms`;
  at("queue").textContent = `${found.queue_ms.toFixed(1)} ms`;
  const alarm = found.alarm ? " alarm" : "";
  at("anomaly").textContent = found.anomaly === null ? "not watched" : found.anomaly.toFixed(3) + alarm;
  drawFrames(found.frames);
  drawChunk(found.actions, found.names);
}

function say(text, bad) {
  at("state").textContent = text;
  at("state").className = bad ? "bad" : "";
}

async function update() {
  const token = sessionStorage.getItem("token");
  const query = new URLSearchParams({ after: shown, client });
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(`live.json?${query}`, { headers, cache: "no-store" });
  at("login").hidden = response.status !== 401;
  if (response.status === 401) return say("needs a token", true);
  const found = await response.json();
  if (!response.ok) return say(found.error, true);
  draw(found);
  say(found.number ? "live" : "no observation yet", false);
}

async function loop() {
  try {
    if (!document.hidden) await update();
  } catch {
    say("the server does not answer", true);
  }
  setTimeout(loop, PERIOD_MS);
}

at("client").addEventListener("change", (event) => { client = event.target.value; shown = 0; });
at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value.trim());
});
loop();
