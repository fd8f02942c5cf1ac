"use strict";
// The page: shows the frames that the server sends, and answers each with what is pressed. Nothing is computed here.

const $ = (id) => document.getElementById(id);
const RAMP = { steer: 0.12, gas: 0.06, brake: 0.1 }; // how fast a key moves an axis, a frame; others jump
// What can be held: its keys, the first of them as the help has it, its face on a pad, and the axes that it moves. Where
// an action is one of some choices, the server says which of these are held for each.
const CONTROLS = {
  left: { keys: ["ArrowLeft", "KeyA"], shown: "←", face: "◀", moves: { move: -1, steer: -1 } },
  right: { keys: ["ArrowRight", "KeyD"], shown: "→", face: "▶", moves: { move: 1, steer: 1 } },
  brake: { keys: ["ArrowDown", "KeyS"], shown: "↓", face: "▼", moves: { brake: 1 } },
  gas: { keys: ["ArrowUp", "KeyW"], shown: "↑", face: "▲", moves: { gas: 1 } },
  down: { keys: ["ArrowDown", "KeyS"], shown: "↓", face: "▼", moves: {} },
  jump: { keys: ["Space", "ArrowUp", "KeyW"], shown: "↑", face: "▲", moves: {} },
  fire: { keys: ["Space", "ArrowUp", "KeyW"], shown: "Space", face: "●", moves: {} },
};
for (let number = 0; number < 10; number++) { // of choices that have no names
  CONTROLS[number] = { keys: [`Digit${number}`, `Numpad${number}`], shown: number, face: "", moves: {} };
}
const OPPOSITE = { left: "right", right: "left" };
const KINDS = {
  agent: {
    dream: "Dream", dreamt: "the dream of M", played: "the real game, and what V keeps of it",
    enter: "Drive in the dream", ending: "",
  },
  nextframe: {
    dream: "Model", dreamt: "what the model predicts, fed its own predictions",
    played: "the real game, and what the model predicted of each frame",
    enter: "Play in the prediction", ending: "; it goes on until you restart",
  },
};
const seed = /^\d+$/.test(new URLSearchParams(location.search).get("seed")) ? +new URLSearchParams(location.search).get("seed") : null;

let socket, hello, state = {}, last = null, best = {}, toastTimer, drawing = Promise.resolve();
let unopened = null; // the world that could not be opened, and why, until something is asked for in another
const held = new Set(); // what keys and pads press, the newest last
const tapped = new Map(); // what they pressed and no step has done yet, with the time until which it is waited for
const PATIENCE = 1000; // milliseconds
let asked = 0; // the timer of a temperature that is yet to be sent: a slider tells more often than anyone listens
let action = [], padWas = {}, controls = [], keys = {};
let sliders = [], bendTimer = 0; // of z
const bends = new Map(); // the sliders that are held, by their numbers, and what they are held at
let watches = false; // whether the picture is looked at while it is paused: somebody steps, or bends it

function connect() {
  const address = new URL("socket", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  address.search = "";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = async () => {
    document.body.dataset.connected = "false";
    const title = state.refused ? "Closed" : hello ? "Connection lost" : "Cannot connect";
    const why = state.refused || (hello ? "" : await unopenedWhy());
    overlay(title, `${why}${why && " · "}tap to connect again`, () => location.reload());
  };
}

// Why the WebSocket did not open: a browser does not tell, but the server does when it is asked like this.
async function unopenedWhy() {
  try {
    const answer = await fetch("socket", { method: "POST" });
    if (answer.status === 204) return "a proxy on the way must pass WebSockets on (the headers Upgrade and Connection)";
    const plain = (answer.headers.get("content-type") || "").startsWith("text/plain");
    return plain ? await answer.text() : `the server, or a proxy on the way, answers with ${answer.status}`;
  } catch {
    return "the server does not answer: does it still run?";
  }
}

function say(type, rest = {}) {
  if (type !== "input" && state.world) unopened = null;
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
  if (message.type === "unopened") {
    unopened = message;
    cover();
  }
}

function greet(message) {
  hello = message;
  $("title").textContent = hello.title;
  document.title = `${hello.title} · World Models`;
  $("per").textContent = `${hello.step}s`;
  action = hello.axes.map(() => hello.rest);
  document.body.dataset.kind = hello.kind;
  const [dream, real] = $("world").children;
  [dream.textContent, dream.title, real.title] = [KINDS[hello.kind].dream, KINDS[hello.kind].dreamt, KINDS[hello.kind].played];
  [$("temperature").min, $("temperature").max] = hello.temperatures;
  for (const [what, reason] of Object.entries(hello.missing)) {
    const button = document.querySelector(`[data-world=${what}], [data-driver=${what}]`);
    button.disabled = true;
    button.title = reason;
  }
  controls = Object.keys(CONTROLS).filter((name) => hello.choices ? hello.choices.flat().includes(name)
    : hello.axes.some((axis) => CONTROLS[name].moves[axis.name]));
  keys = Object.fromEntries(controls.flatMap((name) => CONTROLS[name].keys.map((code) => [code, name])));
  $("axes").replaceChildren(...(hello.choices ? controls.map(chip) : hello.axes.map(bar)));
  const sides = controls.filter((name) => OPPOSITE[name]), others = controls.filter((name) => !OPPOSITE[name]);
  $("meters").replaceChildren(...Object.keys(hello.meters).map(meter));
  sliders = hello.sliders.map(slider);
  const [left, right] = document.querySelectorAll(".sliders"), half = Math.ceil(sliders.length / 2);
  const which = make("small", {}, `the ${sliders.length} numbers of z that change the picture most`);
  left.replaceChildren(which, ...sliders.slice(0, half).map((input) => input.parentElement));
  right.replaceChildren(...sliders.slice(half).map((input) => input.parentElement));
  const pads = others.length ? [sides, others] : sides.map((name) => [name]);
  $("touch").replaceChildren(...pads.map((names) => make("div", {}, ...names.map(padButton))));
  const key = (shown) => `<kbd>${shown}</kbd>`, steering = hello.axes.some((axis) => axis.name === "steer");
  $("help").innerHTML = [
    ...(sides.length ? [`${key("←")} ${key("→")} ${steering ? "steer" : "move"}`] : []),
    ...others.map((name) => `${key(CONTROLS[name].shown)} ${name}`),
    ...(keys.Space ? [] : [`${key("Space")} start`]),
    ...(hello.kind === "agent" ? [`${key("C")} you or C`] : []),
    `${key("R")} restart`, `${key("P")} pause`, `${key("N")} one step`, `${key("V")} record`, "or a gamepad",
  ].join(" · ");
  document.body.dataset.connected = "true";
  say("input", { seen: 0, action }); // there is somebody here
  if (hello.missing.controller) return;
  say("controller", { on: state.controller = true });
  if (seed !== null) restart();
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const bar = (axis) => make("div", {}, make("i"), axis.name === "move" ? "" : axis.name);

function meter(name) {
  const box = bar({ name });
  box.title = { ending: `M's probability, of this moment, that the episode ends; the meter is full at ${percent(hello.meters[name])}`,
    spread: "how unsure M was of this moment's z: the standard deviation that it expected, the mean of z's numbers" }[name];
  return box;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A slider of one number of z. It shows what the dream has there; while it is held, the dream has what it shows.
function slider(place, i) {
  const [min, max] = hello.bends, input = make("input", { type: "range", step: 0.05, min, max });
  make("label", { title: `number ${place} of z` }, `z ${place}`, input);
  const letGo = () => {
    if (bendTimer) bend();
    if (bends.delete(i)) bend();
  };
  const hold = () => {
    bends.set(i, +input.value);
    watches = state.paused;
    bendTimer = bendTimer || setTimeout(bend, 40); // a slider tells more often than anyone listens
  };
  input.oninput = hold;
  input.onpointerdown = () => setTimeout(() => { if (input.matches(":active")) hold(); }); // it tells nothing where it stands already
  input.onchange = input.onblur = letGo;
  input.onpointerup = input.onpointercancel = () => { letGo(); input.blur(); }; // as of the temperature
  return input;
}

function bend() {
  clearTimeout(bendTimer);
  bendTimer = 0;
  say("bend", { values: hello.sliders.map((_, i) => bends.get(i) ?? null) });
}

function chip(name) {
  const box = make("span", {}, `${CONTROLS[name].face} ${name}`);
  box.dataset.control = name;
  return box;
}

function settle(message) {
  const other = state.world !== message.world;
  state = { ...state, ...message };
  if (other && state.world) unopened = null;
  for (const button of $("world").children) press(button, button.dataset.world === state.world);
  for (const button of $("driver").children) press(button, (button.dataset.driver === "controller") === state.controller);
  if (!asked && document.activeElement !== $("temperature")) $("temperature").value = state.temperature;
  if (!asked) $("degrees").textContent = state.temperature.toFixed(2);
  press($("record"), state.recording);
  $("record").textContent = state.recording ? "Save" : "Record";
  watches = watches && state.paused;
  $("mark").hidden = !state.recording;
  const survived = hello.score.startsWith("survival");
  $("unit").textContent = !state.scored ? `${hello.step}s predicted` : survived ? `${hello.step}s survived` : hello.score;
  $("best").parentElement.hidden = !state.scored;
  if (other) {
    last = null;
    $("pictures").replaceChildren(...message.labels.map((label) => make("figure", {}, make("canvas"), make("figcaption", {}, label))));
  }
  for (const key of ["world", "paused", "controller", "recording"]) document.body.dataset[key] = state[key];
  cover();
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
    steer(about.action);
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
  const count = state.scored ? about.total : about.step;
  $("total").textContent = Number.isInteger(count) ? count : count.toFixed(1);
  if (about.rate) $("rate").textContent = about.rate.toFixed(0);
  if (about.over && !(best[state.world] >= about.total)) best[state.world] = about.total;
  $("best").textContent = best[state.world] === undefined ? "–" : +best[state.world].toFixed(1);
  if (hello.choices) {
    for (const box of $("axes").children) box.classList.toggle("on", does(box.dataset.control, about.action));
  } else hello.axes.forEach((axis, i) => {
    const bar = $("axes").children[i].firstChild.style, at = (value) => 100 * (value - axis.low) / (axis.high - axis.low);
    bar.setProperty("--from", `${at(Math.min(0, about.action[i]))}%`);
    bar.setProperty("--much", `${Math.abs(at(about.action[i]) - at(0))}%`);
  });
  Object.entries(hello.meters).forEach(([name, full], i) => {
    const [bar, text] = $("meters").children[i].childNodes, value = about.expected[name];
    bar.style.setProperty("--much", `${Math.min(100, 100 * (value || 0) / full)}%`);
    text.data = `${name} ${value === undefined ? "–" : name === "ending" ? percent(value) : value.toFixed(2)}`;
  });
  about.z.forEach((value, i) => { if (!bends.has(i)) sliders[i].value = value; });
  [document.body.dataset.episode, document.body.dataset.step] = [about.episode, about.step];
  cover();
  document.dispatchEvent(new CustomEvent("frame", { detail: about }));
}

function cover() {
  $("pause").textContent = !state.paused ? "Pause" : last && last.step ? "Go on" : "Start";
  if (socket.readyState === WebSocket.CLOSED) return; // which stays said, though a last frame may still be drawn
  const touch = matchMedia("(pointer: coarse)").matches, how = touch ? "tap" : "press Space or an arrow key";
  if (unopened) {
    const button = document.querySelector(`#world [data-world=${unopened.world}]`).textContent;
    const back = state.world ? ", or here to go back" : "";
    overlay(`The ${button.toLowerCase()} cannot be opened`, `${unopened.message} · press ${button} to try again${back}`,
      state.world ? () => { unopened = null; cover(); } : () => enter(unopened.world));
  } else if (waits()) {
    const text = last.over === "cut" ? "That is all the time there is" : state.world === "dream" ? "The dream is over" : "It is over";
    overlay(text, `${$("total").textContent} ${$("unit").textContent} · ${how} to start again`, restart);
  } else if (state.paused && last && !watches) {
    const dream = state.world === "dream", enter = dream ? KINDS[hello.kind].enter : "Play the game";
    const start = `start${dream ? KINDS[hello.kind].ending : ""}`;
    overlay(last.step ? "Paused" : enter, `${how} to ${last.step ? "go on" : start}`, begin);
  } else $("overlay").hidden = true;
}

function overlay(title, text, act) {
  const [big, small] = $("overlay").children;
  [big.textContent, small.textContent] = [title, text];
  $("overlay").hidden = false;
  $("overlay").onpointerdown = ({ button }) => { if (!button) getSelection().removeAllRanges(); };
  $("overlay").onclick = () => { if (getSelection().isCollapsed) act(); }; // who selects what is said wants to copy it
  $("overlay").onkeydown = ({ code }) => { if (code === "Enter") act(); };
}

const ended = () => Boolean(last && last.over);
const waits = () => ended() && !state.controller; // until somebody begins again
const restart = () => say("restart", { seed });
const enter = (name) => say("world", { name });
const begin = () => (ended() ? restart() : last && !last.step && seed !== null ? restart() : say("pause", { on: false }));

function single() {
  watches = true;
  if (last) steer(last.action);
  say("input", { seen: 0, action }); // no frame has asked for it since it was paused
  say("step");
}

// What is pressed, as the action of the next step. done: the action of the last.
function steer(done) {
  const now = performance.now();
  for (const [name, end] of tapped) if (now > end || does(name, done) || held.has(OPPOSITE[name])) tapped.delete(name);
  const pad = gamepad(), pressed = new Set([...held, ...tapped.keys()]);
  if (hello.choices) {
    action = [choose(pad ? pad.held : [...pressed])];
    return;
  }
  action = hello.axes.map((axis, i) => {
    if (pad) return clamp(pad[axis.name] || 0, axis);
    let target = 0;
    for (const name of pressed) target += CONTROLS[name].moves[axis.name] || 0;
    const ramp = RAMP[axis.name] || 2, change = target - action[i];
    return clamp(target === 0 && axis.low === 0 ? 0 : action[i] + Math.sign(change) * Math.min(Math.abs(change), ramp), axis);
  });
}

// Whether an action has a control in it.
const does = (name, done) => hello.choices ? hello.choices[done[0]].includes(name)
  : hello.axes.some((axis, i) => (CONTROLS[name].moves[axis.name] || 0) * done[i] > 0);

// The choice for which most of what is pressed is held; of two, the one with what was pressed last.
function choose(pressed) {
  const meant = pressed.filter((name, i) => !pressed.slice(i + 1).includes(OPPOSITE[name]));
  const newest = (names) => Math.max(...names.map((name) => meant.indexOf(name)));
  let best = hello.rest;
  hello.choices.forEach((names, number) => {
    if (!names.length || !names.every((name) => meant.includes(name))) return;
    const than = best === hello.rest ? [] : hello.choices[best];
    if (names.length > than.length || (names.length === than.length && newest(names) > newest(than))) best = number;
  });
  return best;
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
  const up = down(12) || pad.axes[1] < -0.5, under = down(13) || pad.axes[1] > 0.5, button = down(0) || down(1);
  const presses = { left: side < -0.5, right: side > 0.5, down: under, jump: up || button, fire: up || button };
  const also = hello.choices ? controls.filter((name) => presses[name]) : [];
  if (hello.choices ? !also.length : !side && !gas && !brake) return null;
  engage();
  return { move: side, steer: side, gas, brake, held: also };
}

// Whoever touches the controls drives, and begins if nothing moves yet.
function engage() {
  if (state.controller) say("controller", { on: false });
  state.controller = false;
  if (state.paused && !ended()) { state.paused = false; begin(); }
}

const toggle = () => { if (hello.kind === "agent" && !hello.missing.controller) say("controller", { on: !state.controller }); };

function hold(name, on) {
  if (on && !held.has(name)) {
    held.add(name);
    tapped.set(name, performance.now() + PATIENCE);
    if (waits()) return;
    engage();
  } else if (!on) held.delete(name);
}

function release() {
  held.clear();
  tapped.clear();
}

addEventListener("keydown", (event) => {
  if (!hello || event.ctrlKey || event.metaKey || event.altKey) return;
  const slides = event.target.type === "range";
  const pushes = event.code === "Space" && event.target.tagName === "BUTTON" && event.target !== $("overlay");
  if (keys[event.code] && !pushes && !(slides && event.code.startsWith("Arrow"))) {
    event.preventDefault();
    if (!event.repeat) {
      const over = waits();
      hold(keys[event.code], true);
      if (over) restart();
    }
    return;
  }
  if (event.repeat && event.code !== "KeyN") return;
  const command = { KeyR: restart, KeyC: toggle, KeyN: single, KeyP: () => say("pause", { on: !state.paused }), KeyV: () => $("record").click(), Space: () => (state.paused || ended() ? begin() : null) }[event.code];
  if (command && !pushes) {
    event.preventDefault();
    command();
  }
});
addEventListener("keyup", (event) => { if (keys[event.code]) hold(keys[event.code], false); });
addEventListener("blur", release);
document.addEventListener("visibilitychange", () => { if (document.hidden) release(); });
// The gamepad is asked with every frame; while nothing moves no frame comes.
setInterval(() => { if (hello && (state.paused || ended())) gamepad(); }, 100);

function padButton(name) {
  const button = make("button", {}, CONTROLS[name].face, make("small", {}, name));
  const on = (event) => { event.preventDefault(); button.setPointerCapture(event.pointerId); button.classList.add("held"); hold(name, true); };
  const off = () => { button.classList.remove("held"); hold(name, false); };
  button.addEventListener("pointerdown", on);
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(end, off);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  return button;
}

for (const button of $("world").children) button.onclick = () => enter(button.dataset.world);
for (const button of $("driver").children) button.onclick = () => say("controller", { on: button.dataset.driver === "controller" });
$("restart").onclick = restart;
$("pause").onclick = () => (state.paused ? begin() : say("pause", { on: true }));
$("step").onclick = single;
$("bend").onclick = () => press($("bend"), document.body.classList.toggle("bending"));
$("record").onclick = () => say("record", { on: !state.recording });
document.addEventListener("click", ({ target }) => { if (target.closest("button")) target.closest("button").blur(); }); // the keys drive again
$("temperature").oninput = () => {
  const value = +$("temperature").value;
  $("degrees").textContent = value.toFixed(2);
  clearTimeout(asked);
  asked = setTimeout(() => { asked = 0; say("temperature", { value }); }, 40);
};
$("temperature").onpointerup = () => $("temperature").blur(); // the arrow keys drive again; who came by keyboard stays

function download(message) {
  const link = make("a", { href: message.url, download: "" });
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
