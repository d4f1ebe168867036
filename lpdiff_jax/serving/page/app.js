"use strict";
// The page of `lpdiff serve`: it asks nobody but the server that it comes from.

const TEXTS = {
  en: {
    language: "Language", lead: "Several poor frames of one licence plate in; the text, how sure it is, and a restored picture out.",
    inputTitle: "1. Pictures or a clip", choose: "Choose files", dropHint: "or drop them here: cropped plates, whole pictures, or a video.",
    grouping: "Several pictures are", together: "frames of one plate", each: "a plate each",
    placeTitle: "2. Where is the plate?", placeHint: "Draw a box around the plate. Cropped plates need none. In a video, draw boxes at several moments: between them the box moves evenly.",
    moment: "Moment", width: "width", height: "height", clear: "Remove the box",
    keys: "Keys: arrows move the box, Shift + arrows change its size.", canvas: "Picture to draw a box on",
    howTitle: "3. Restore", samples: "Restorations", steps: "Steps", seed: "Seed", maxFrames: "Frames of a plate",
    detect: "Find the plates (detector)", force: "These are crops of plates, whatever they look like", token: "Token", go: "Restore",
    resultsTitle: "Result", warning: "The restored pictures are generated. They show the characters that the model thinks it read, whether right or wrong: go by the confidence, not by the picture, and do not take them for evidence.",
    download: "Download all (zip)", working: "Working", waiting: "The server is busy; trying again in", seconds: "s", cancelled: "Stopped.",
    confidence: "Confidence", readable: "readable", uncertain: "uncertain", unreadable: "unreadable", noReading: "This model does not read.",
    hypotheses: "Likeliest texts", together_: "together", frame: "frame", first: "first estimate, generated", sample: "generated", spread: "where they differ",
    emerging: "The plate as it emerges", step: "step", of: "of", frames: "Frames used",
    weak: "Characters underlined with dots are as likely wrong as right.", model: "Model", keeps: "This server keeps results.", keepsNot: "This server keeps nothing.",
    selected: "Box", files: "Files", unreachable: "The server cannot be reached.",
  },
  zh: {
    language: "语言", lead: "输入同一车牌的几帧模糊图像；输出车牌文字、可信度和复原图像。",
    inputTitle: "1. 图片或视频", choose: "选择文件", dropHint: "或拖放到此处：车牌截图、完整图片或视频。",
    grouping: "多张图片是", together: "同一车牌的多帧", each: "各为一个车牌",
    placeTitle: "2. 车牌在哪里？", placeHint: "请框出车牌。车牌截图无需画框。视频可在几个时刻画框，其间框会匀速移动。",
    moment: "时刻", width: "宽", height: "高", clear: "删除框",
    keys: "键盘：方向键移动框，Shift + 方向键改变大小。", canvas: "用于画框的图片",
    howTitle: "3. 复原", samples: "复原次数", steps: "步数", seed: "随机种子", maxFrames: "每个车牌的帧数",
    detect: "自动查找车牌（检测器）", force: "这些就是车牌截图，无需检查", token: "令牌", go: "复原",
    resultsTitle: "结果", warning: "复原图像由模型生成，显示的是模型认为读到的字符，可能对也可能错：请以可信度为准，不要以图像为准，也不要将其作为证据。",
    download: "全部下载（zip）", working: "处理中", waiting: "服务器忙，将重试，等待", seconds: "秒", cancelled: "已停止。",
    confidence: "可信度", readable: "可读", uncertain: "不确定", unreadable: "不可读", noReading: "此模型不识别文字。",
    hypotheses: "最可能的文字", together_: "合计", frame: "帧", first: "初步估计（生成）", sample: "生成图像", spread: "各次结果的差异",
    emerging: "车牌逐步显现", step: "步骤", of: "/", frames: "使用的帧",
    weak: "带点状下划线的字符，对错各半。", model: "模型", keeps: "此服务器会保存结果。", keepsNot: "此服务器不保存任何内容。",
    selected: "框", files: "文件", unreachable: "无法连接服务器。",
  },
};

const $ = id => document.getElementById(id);
const state = { files: [], shown: 0, boxes: [], image: null, size: [0, 0], info: null, result: null, duration: 0, zip: null };
let texts = TEXTS.en;

function speak(language) {
  texts = TEXTS[language];
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = texts[node.dataset.text];
  $("language").value = language;
  $("keys").textContent = texts.keys;
  $("canvas").setAttribute("aria-label", texts.canvas);
  tellServer();
  if (state.result) showResult(state.result);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// --- the server -----------------------------------------------------------------------------

function headers() {
  const token = $("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, form) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { method: form ? "POST" : "GET", body: form, headers: headers() });
    } catch {
      throw new Error(texts.unreachable);
    }
    if (answer.status === 503) {
      let left = Number(answer.headers.get("Retry-After")) || 5;
      for (; left > 0; left--) {
        $("state").textContent = `${texts.waiting} ${left} ${texts.seconds}`;
        await new Promise(done => setTimeout(done, 1000));
      }
      continue;
    }
    if (answer.status === 401) $("token-row").hidden = false;
    const content = await answer.json().catch(() => ({ error: answer.statusText }));
    if (!answer.ok) throw new Error(content.error);
    return content;
  }
}

async function meet() {
  try {
    state.info = await ask("/api/info");
    $("detect-row").hidden = !state.info.detector;
    tellServer();
  } catch (error) {
    $("error").textContent = error.message;
  }
}

function tellServer() {
  const info = state.info;
  if (!info) return;
  $("server").textContent =
    `lpdiff-jax ${info.version}. ${texts.model}: ${info.model.name}, ${info.model.sha256.slice(0, 12)}. ` +
    (info.keeps ? texts.keeps : texts.keepsNot);
}

// --- files ----------------------------------------------------------------------------------

function take(files) {
  state.files = [...files];
  state.boxes = state.files.map(() => []);
  state.shown = 0;
  state.result = null;
  $("results").hidden = true;
  $("go").disabled = !state.files.length;
  listFiles();
  show(0);
}

function listFiles() {
  $("list").replaceChildren(...state.files.map((file, place) => {
    const marks = state.boxes[place].length ? " ▣" : "";
    const button = element("button", { type: "button", "aria-pressed": String(place === state.shown), title: file.name }, file.name + marks);
    button.onclick = () => show(place);
    return element("li", {}, button);
  }));
}

let asked = 0;
async function show(place, at = 0) {
  const file = state.files[place];
  if (!file) return;
  state.shown = place;
  listFiles();
  $("error").textContent = "";
  const mine = ++asked;
  const form = new FormData();
  form.append("at", String(at));
  form.append("files", file);
  try {
    const preview = await ask("/api/preview", form);
    if (mine !== asked) return;
    const image = new Image();
    image.src = preview.image;
    await image.decode();
    state.image = image;
    state.size = [preview.width, preview.height];
    state.time = preview.time ?? 0;
    $("time-row").hidden = !preview.video;
    if (preview.video) {
      $("time").max = String(preview.duration ?? 60);
      $("time-shown").textContent = `${state.time.toFixed(2)} ${texts.seconds}`;
    }
    $("place").hidden = false;
    draw();
  } catch (error) {
    if (mine === asked) $("error").textContent = error.message;
  }
}

// --- the box --------------------------------------------------------------------------------

// Boxes of a file: {time, box: [x, y, w, h]} in its pixels; pictures have one at time 0.
const moment = () => ($("time-row").hidden ? 0 : state.time);
function current() {
  const boxes = state.boxes[state.shown] ?? [];
  return boxes.find(entry => Math.abs(entry.time - moment()) < 0.02) ?? null;
}
function inherited() {
  const own = current();
  if (own) return own.box;
  const boxes = state.boxes[state.shown] ?? [];
  return between(boxes, moment());
}
function between(boxes, time) {
  if (!boxes.length) return null;
  const sorted = [...boxes].sort((a, b) => a.time - b.time);
  const after = sorted.find(entry => entry.time >= time);
  const before = sorted.filter(entry => entry.time <= time).pop();
  if (!after || !before) return (after ?? before).box;
  const share = (time - before.time) / (after.time - before.time || 1);
  return before.box.map((value, k) => value + share * (after.box[k] - value));
}
function setBox(box) {
  const [width, height] = state.size;
  const w = Math.min(Math.max(Math.round(box[2]), 1), width), h = Math.min(Math.max(Math.round(box[3]), 1), height);
  const whole = [Math.min(Math.max(Math.round(box[0]), 0), width - w), Math.min(Math.max(Math.round(box[1]), 0), height - h), w, h];
  const own = current();
  if (own) own.box = whole; else state.boxes[state.shown].push({ time: moment(), box: whole });
  listFiles();
  draw();
}

function draw() {
  if (!state.image) return;
  const canvas = $("canvas"), pen = canvas.getContext("2d");
  // A crop of a plate has few pixels: it is shown larger, so that a box can be drawn on it.
  const scale = Math.min(Math.max(1, 480 / state.image.width), 1000 / state.image.width);
  canvas.width = Math.round(state.image.width * scale);
  canvas.height = Math.round(state.image.height * scale);
  pen.drawImage(state.image, 0, 0, canvas.width, canvas.height);
  const box = inherited();
  ["x", "y", "w", "h"].forEach((name, k) => { $(`box-${name}`).value = box ? Math.round(box[k]) : ""; });
  if (!box) return;
  const factor = canvas.width / state.size[0];
  pen.lineWidth = 2; pen.strokeStyle = "#fff";
  pen.strokeRect(...box.map(value => value * factor));
  pen.setLineDash([6, 4]); pen.strokeStyle = current() ? "#d55e00" : "#0b5394";
  pen.strokeRect(...box.map(value => value * factor));
}

function pointer(event) {
  const canvas = $("canvas"), frame = canvas.getBoundingClientRect();
  const factor = state.size[0] / frame.width;
  return [(event.clientX - frame.left) * factor, (event.clientY - frame.top) * factor];
}
let corner = null;
$("canvas").addEventListener("pointerdown", event => {
  if (!state.image) return;
  corner = pointer(event);
  $("canvas").setPointerCapture(event.pointerId);
  $("canvas").focus({ preventScroll: true });
});
$("canvas").addEventListener("pointermove", event => {
  if (!corner) return;
  const [x, y] = pointer(event);
  const w = Math.abs(x - corner[0]), h = Math.abs(y - corner[1]);
  if (w > 3 && h > 3) setBox([Math.min(x, corner[0]), Math.min(y, corner[1]), w, h]);
});
for (const name of ["pointerup", "pointercancel"]) $("canvas").addEventListener(name, () => { corner = null; });
$("canvas").addEventListener("keydown", event => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!step || !state.image) return;
  event.preventDefault();
  const [width, height] = state.size, by = Math.max(1, Math.round(width / 200));
  const [x, y, w, h] = inherited() ?? [width * 0.4, height * 0.45, width * 0.2, height * 0.1];
  setBox(event.shiftKey ? [x, y, w + by * step[0], h + by * step[1]] : [x + by * step[0], y + by * step[1], w, h]);
});
for (const name of ["x", "y", "w", "h"]) $(`box-${name}`).addEventListener("change", () => {
  const box = ["x", "y", "w", "h"].map(key => Number($(`box-${key}`).value) || 0);
  if (box[2] > 0 && box[3] > 0) setBox(box);
});
$("clear").onclick = () => {
  state.boxes[state.shown] = [];
  listFiles();
  draw();
};
let wait;
$("time").addEventListener("input", () => {
  state.time = Number($("time").value);
  $("time-shown").textContent = `${state.time.toFixed(2)} ${texts.seconds}`;
  clearTimeout(wait);
  wait = setTimeout(() => show(state.shown, state.time), 250);
});

// --- restoring ------------------------------------------------------------------------------

function boxesToSend() {
  const isVideo = !$("time-row").hidden && state.files.length === 1;
  if (isVideo) return state.boxes[0].map(entry => ({ time: entry.time, box: entry.box }));
  // A box that was drawn on one picture is meant for those without one, too.
  const all = state.boxes.flatMap((boxes, place) => boxes.map(entry => ({ frame: place, box: entry.box })));
  return all.length === 1 ? [{ box: all[0].box }] : all;
}

$("go").onclick = async () => {
  const form = new FormData();
  for (const [name, id] of [["samples", "samples"], ["steps", "steps"], ["seed", "seed"], ["max_frames", "max-frames"]]) form.append(name, $(id).value);
  const boxes = boxesToSend();
  if (boxes.length && !$("detect").checked) form.append("boxes", JSON.stringify(boxes));
  form.append("group", document.querySelector("input[name=group]:checked").value);
  form.append("zip", "1");
  if ($("detect").checked) form.append("detect", "1");
  if ($("force").checked) form.append("force", "1");
  for (const file of state.files) form.append("files", file);
  $("go").disabled = true;
  $("error").textContent = "";
  const begun = Date.now();
  const clock = setInterval(() => {
    $("state").textContent = `${texts.working} … ${Math.round((Date.now() - begun) / 1000)} ${texts.seconds}`;
  }, 500);
  try {
    state.result = await ask("/api/restore", form);
    showResult(state.result);
    $("results").scrollIntoView({ behavior: "smooth" });
  } catch (error) {
    $("error").textContent = error.message;
  } finally {
    clearInterval(clock);
    $("state").textContent = "";
    $("go").disabled = false;
  }
};

function showResult(result) {
  $("results").hidden = false;
  if (state.zip) URL.revokeObjectURL(state.zip);
  const bytes = Uint8Array.from(atob(result.zip), character => character.charCodeAt(0));
  state.zip = URL.createObjectURL(new Blob([bytes], { type: "application/zip" }));
  $("zip").href = state.zip;
  $("problems").replaceChildren(...[...result.problems, ...result.notes].map(line => element("li", {}, line)));
  $("plates").replaceChildren(...result.plates.map(showPlate));
}

function figure(address, caption, generated) {
  const image = element("img", { src: address, alt: caption });
  return element("figure", {}, image, element("figcaption", generated ? { class: "generated" } : {}, caption));
}

function showPlate(plate) {
  const box = element("article", { class: "plate" }, element("h3", {}, plate.name));
  box.append(...showReading(plate));
  const pictures = element("div", { class: "pictures" });
  plate.pictures.frames.forEach((address, k) => pictures.append(figure(address, `${texts.frame} ${k + 1}`)));
  if (plate.pictures.first) pictures.append(figure(plate.pictures.first, texts.first, true));
  plate.pictures.restored.forEach((address, k) => pictures.append(figure(address, `${texts.sample} ${k + 1}`, true)));
  if (plate.pictures.spread) pictures.append(figure(plate.pictures.spread, texts.spread, true));
  box.append(pictures);
  if (plate.pictures.steps.length) box.append(showSteps(plate.pictures.steps));
  box.append(element("p", {}, `${texts.frames}: ${plate.frames.length} ${texts.of} ${plate.frames_seen}`));
  return box;
}

function showReading(plate) {
  const reading = plate.reading;
  if (!reading) return [element("p", {}, texts.noReading)];
  const line = element("p", { class: "reading", lang: "zh-CN" });
  [...reading.text].forEach((character, k) => {
    const sure = reading.character_confidences[k];
    const shade = `s${Math.min(4, Math.floor(sure * 5))}`;
    const weak = reading.weak.includes(k) ? " weak" : "";
    line.append(element("span", { class: shade + weak, title: sure.toFixed(3) }, character));
  });
  const verdict = element("span", { class: `verdict ${reading.verdict}` }, texts[reading.verdict]);
  const confidence = element("p", {}, `${texts.confidence}: ${(100 * reading.confidence).toFixed(1)} % · `, verdict);
  const nodes = [confidence, line];
  if (reading.weak.length) nodes.push(element("p", {}, texts.weak));
  if (plate.hypotheses) {
    const entries = plate.hypotheses.texts.map(entry => element("li", {}, `${entry.text}  ${(100 * entry.probability).toFixed(1)} %`));
    const total = `${texts.together_}: ${(100 * plate.hypotheses.sum).toFixed(1)} %`;
    nodes.push(element("details", { open: "" }, element("summary", {}, texts.hypotheses), element("ol", { class: "texts" }, ...entries), element("p", {}, total)));
  }
  return nodes;
}

function showSteps(steps) {
  const image = element("img", { src: steps[steps.length - 1], alt: texts.emerging });
  const slider = element("input", { type: "range", min: "1", max: String(steps.length), value: String(steps.length), "aria-label": texts.emerging });
  const shown = element("output", {});
  slider.oninput = () => {
    image.src = steps[slider.value - 1];
    shown.textContent = ` ${texts.step} ${slider.value} ${texts.of} ${steps.length}`;
  };
  slider.oninput();
  return element("details", { class: "steps", open: "" }, element("summary", {}, texts.emerging), slider, shown, image);
}

// --- beginning ------------------------------------------------------------------------------

$("files").onchange = () => take($("files").files);
const drop = $("drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.remove("over"); });
drop.addEventListener("drop", event => take(event.dataTransfer.files));
$("language").onchange = () => speak($("language").value);
$("token").onchange = meet;
speak((navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en");
meet();
