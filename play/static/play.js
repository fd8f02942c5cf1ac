"use strict";
// The page: shows the frames that the server sends, and answers each with what is pressed. Nothing is computed here.

const $ = (id) => document.getElementById(id);
const RAMP = { steer: 0.12, gas: 0.06, brake: 0.1 }; // how fast a key moves an axis, a frame; others jump
const SIGNS = { left: ["move", "steer", -1], right: ["move", "steer", 1], gas: ["gas", "gas", 1], brake: ["brake", "brake", 1] };
const KEYS = {
  ArrowLeft: "left", KeyA: "left", ArrowRight: "right", KeyD: "right",
  ArrowUp: "gas", KeyW: "gas", ArrowDown: "brake", KeyS: "brake",
};
const seed = /^\d+$/.test(new URLSearchParams(location.search).get("seed")) ? +new URLSearchParams(location.search).get("seed") : null;

let socket, hello, state = {}, last = null, best = {}, toastTimer, drawing = Promise.resolve();
const held = new Set(); // what keys and pads press
let action = [], padWas = {};

function connect() {
  const address = new URL("socket", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.search = "";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = () => {
    overlay(state.refused ? "Closed" : "Connection lost", state.refused || "tap to connect again", () => location.reload());
    document.body.dataset.connected = "false";
  };
}

function say(type, rest = {}) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type, ...rest }));
}

function hear(message) {
  if (message.type === "hello") greet(message);
  if (message.type === "state") settle(message);
  if (message.type === "recorded") download(message);
  if (message.type === "error") {
    if (message.closed) state.refused = message.message;
    toast(message.message);
  }
}

function greet(message) {
  hello = message;
  $("title").textContent = hello.title;
  document.title = `${hello.title} · World Models`;
  $("unit").textContent = hello.score.startsWith("survival") ? `${hello.step}s survived` : hello.score;
  $("per").textContent = `${hello.step}s`;
  action = hello.axes.map(() => 0);
  [$("temperature").min, $("temperature").max] = hello.temperatures;
  for (const [what, reason] of Object.entries(hello.missing)) {
    const button = document.querySelector(`[data-world=${what}], [data-driver=${what}]`);
    button.disabled = true;
    button.title = reason;
  }
  $("axes").replaceChildren(...hello.axes.map((axis) => {
    const box = document.createElement("div");
    box.append(document.createElement("i"), axis.name === "move" ? "" : axis.name);
    return box;
  }));
  const drives = hello.axes.some((axis) => axis.name === "gas");
  pads(drives ? [["left", "right"], ["brake", "gas"]] : [["left"], ["right"]]);
  $("help").innerHTML = (drives ? "<kbd>←</kbd> <kbd>→</kbd> steer · <kbd>↑</kbd> gas · <kbd>↓</kbd> brake" : "<kbd>←</kbd> <kbd>→</kbd> move")
    + " · <kbd>Space</kbd> start · <kbd>C</kbd> you or C · <kbd>R</kbd> restart · <kbd>P</kbd> pause · <kbd>V</kbd> record · or a gamepad";
  document.body.dataset.connected = "true";
}

function settle(message) {
  const other = state.world !== message.world;
  state = { ...state, ...message };
  for (const button of $("world").children) press(button, button.dataset.world === state.world);
  for (const button of $("driver").children) press(button, (button.dataset.driver === "controller") === state.controller);
  if (document.activeElement !== $("temperature") || other) $("temperature").value = state.temperature;
  $("degrees").textContent = (+state.temperature).toFixed(2);
  press($("record"), state.recording);
  $("record").textContent = state.recording ? "Save" : "Record";
  $("pause").textContent = state.paused ? "Go on" : "Pause";
  $("mark").hidden = !state.recording;
  if (other) layout(message.labels);
  for (const key of ["world", "paused", "controller", "recording"]) document.body.dataset[key] = state[key];
  cover();
}

function layout(labels) {
  last = null;
  $("pictures").classList.toggle("two", labels.length > 1);
  $("pictures").replaceChildren(...labels.map((label) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.textContent = label;
    figure.append(document.createElement("canvas"), caption);
    return figure;
  }));
}

function press(button, on) {
  button.classList.toggle("on", on);
  button.setAttribute("aria-pressed", on);
}

// A frame: its number in the order they were sent, the length of its JSON, the JSON, and its pictures.
function receive(buffer) {
  const view = new DataView(buffer), number = view.getUint32(0), end = 8 + view.getUint32(4);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, end - 8)));
  let first = end;
  const images = about.sizes.map((size) => {
    const blob = new Blob([new Uint8Array(buffer, first, size)]);
    first += size;
    return createImageBitmap(blob);
  });
  drawing = drawing.then(() => draw(about, images)).catch(() => {}).then(() => {
    steer();
    say("input", { seen: number, action });
  });
}

async function draw(about, images) {
  const bitmaps = await Promise.all(images), canvases = [...$("pictures").querySelectorAll("canvas")];
  if (bitmaps.length !== canvases.length) return; // of the world that was left
  let wide = 0;
  bitmaps.forEach((bitmap, i) => {
    const canvas = canvases[i], ratio = bitmap.width / bitmap.height;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
      canvas.parentElement.style.setProperty("--ratio", ratio);
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    wide += ratio;
  });
  document.body.style.setProperty("--pictures", wide.toFixed(3));
  last = about;
  $("total").textContent = Number.isInteger(about.total) ? about.total : about.total.toFixed(1);
  if (about.rate) $("rate").textContent = about.rate.toFixed(0);
  if (about.over && !(best[state.world] >= about.total)) best[state.world] = about.total;
  $("best").textContent = best[state.world] === undefined ? "–" : +best[state.world].toFixed(1);
  hello.axes.forEach((axis, i) => {
    const bar = $("axes").children[i].firstChild.style, at = (value) => 100 * (value - axis.low) / (axis.high - axis.low);
    bar.setProperty("--from", `${at(Math.min(0, about.action[i]))}%`);
    bar.setProperty("--much", `${Math.abs(at(about.action[i]) - at(0))}%`);
  });
  [document.body.dataset.episode, document.body.dataset.step] = [about.episode, about.step];
  cover();
  document.dispatchEvent(new CustomEvent("frame", { detail: about }));
}

function cover() {
  const touch = matchMedia("(pointer: coarse)").matches, how = touch ? "tap" : "press Space or an arrow key";
  if (last && last.over && !state.controller) {
    const text = last.over === "cut" ? "That is all the time there is" : state.world === "dream" ? "The dream is over" : "It is over";
    overlay(text, `${$("total").textContent} ${$("unit").textContent} · ${how} to start again`, restart);
  } else if (state.paused && last) {
    overlay(last.step ? "Paused" : state.world === "dream" ? "Drive in the dream" : "Play the game", `${how} to ${last.step ? "go on" : "start"}`, begin);
  } else $("overlay").hidden = true;
}

function overlay(title, text, act) {
  const [big, small] = $("overlay").children;
  [big.textContent, small.textContent] = [title, text];
  $("overlay").hidden = false;
  $("overlay").onclick = act;
}

const restart = () => say("restart", { seed });
const begin = () => (last && last.over ? restart() : last && !last.step && seed !== null ? restart() : say("pause", { on: false }));

// What is pressed, as the action of the next step.
function steer() {
  const pad = gamepad();
  action = hello.axes.map((axis, i) => {
    if (pad && pad[axis.name] !== undefined) return clamp(pad[axis.name], axis);
    let target = 0;
    for (const name of held) if (SIGNS[name].includes(axis.name)) target += SIGNS[name][2];
    const ramp = RAMP[axis.name] || 2, change = target - action[i];
    return clamp(target === 0 && axis.low === 0 ? 0 : action[i] + Math.sign(change) * Math.min(Math.abs(change), ramp), axis);
  });
}

const clamp = (value, axis) => Math.min(axis.high, Math.max(axis.low, Math.round(value * 1000) / 1000));

function gamepad() {
  const pad = [...(navigator.getGamepads ? navigator.getGamepads() : [])].find((each) => each && each.connected);
  if (!pad) return null;
  const down = (i) => Boolean(pad.buttons[i] && pad.buttons[i].pressed), much = (i) => (pad.buttons[i] ? pad.buttons[i].value : 0);
  const once = (i, act) => { if (down(i) && !padWas[i]) act(); padWas[i] = down(i); };
  once(9, begin); // start
  once(8, restart); // back
  once(3, toggle); // Y
  const side = down(14) ? -1 : down(15) ? 1 : Math.abs(pad.axes[0]) > 0.15 ? pad.axes[0] : 0;
  const gas = Math.max(much(7), much(0)), brake = Math.max(much(6), much(1));
  if (!side && !gas && !brake) return null;
  engage();
  return { move: side, steer: side, gas, brake };
}

// Whoever touches the controls drives, and begins if nothing moves yet.
function engage() {
  if (state.controller) say("controller", { on: false });
  state.controller = false;
  if (state.paused && !(last && last.over)) { state.paused = false; begin(); }
}

const toggle = () => { if (!hello.missing.controller) say("controller", { on: !state.controller }); };

function hold(name, on) {
  if (on && !held.has(name)) {
    held.add(name);
    if (last && last.over && !state.controller) return;
    engage();
  } else if (!on) held.delete(name);
}

addEventListener("keydown", (event) => {
  if (!hello || event.ctrlKey || event.metaKey || event.altKey) return;
  const slider = event.target === $("temperature");
  if (KEYS[event.code] && !(slider && event.code.startsWith("Arrow"))) {
    event.preventDefault();
    if (!event.repeat) {
      const over = last && last.over && !state.controller;
      hold(KEYS[event.code], true);
      if (over) restart();
    }
    return;
  }
  if (event.repeat) return;
  const does = { KeyR: restart, KeyC: toggle, KeyP: () => say("pause", { on: !state.paused }), KeyV: () => $("record").click(), Space: () => (state.paused || (last && last.over) ? begin() : null) }[event.code];
  if (does && !(event.code === "Space" && event.target.tagName === "BUTTON" && event.target !== $("overlay"))) {
    event.preventDefault();
    does();
  }
});
addEventListener("keyup", (event) => { if (KEYS[event.code]) hold(KEYS[event.code], false); });
addEventListener("blur", () => held.clear());
document.addEventListener("visibilitychange", () => { if (document.hidden) held.clear(); });
// The gamepad is asked with every frame; while nothing moves no frame comes.
setInterval(() => { if (hello && (state.paused || (last && last.over))) gamepad(); }, 100);

function pads(sides) {
  const faces = { left: ["◀", "left"], right: ["▶", "right"], gas: ["▲", "gas"], brake: ["▼", "brake"] };
  $("touch").replaceChildren(...sides.map((names) => {
    const side = document.createElement("div");
    side.append(...names.map((name) => {
      const button = document.createElement("button"), label = document.createElement("small");
      label.textContent = faces[name][1];
      button.append(faces[name][0], label);
      const on = (event) => { event.preventDefault(); button.setPointerCapture(event.pointerId); button.classList.add("held"); hold(name, true); };
      const off = () => { button.classList.remove("held"); hold(name, false); };
      button.addEventListener("pointerdown", on);
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(end, off);
      button.addEventListener("contextmenu", (event) => event.preventDefault());
      return button;
    }));
    return side;
  }));
}

for (const button of $("world").children) button.onclick = () => { say("world", { name: button.dataset.world }); button.blur(); };
for (const button of $("driver").children) button.onclick = () => { say("controller", { on: button.dataset.driver === "controller" }); button.blur(); };
$("restart").onclick = () => { restart(); $("restart").blur(); };
$("pause").onclick = () => { if (state.paused) begin(); else say("pause", { on: true }); $("pause").blur(); };
$("record").onclick = () => { say("record", { on: !state.recording }); $("record").blur(); };
let asked = 0; // a slider tells more often than anyone listens
$("temperature").oninput = () => {
  $("degrees").textContent = (+$("temperature").value).toFixed(2);
  clearTimeout(asked);
  asked = setTimeout(() => say("temperature", { value: +$("temperature").value }), 40);
};
$("temperature").onchange = () => $("temperature").blur();

function download(message) {
  const link = document.createElement("a");
  link.href = message.url;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
  toast(`${message.seconds} s of video saved`);
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("up");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("up"), 5000);
}

connect();
