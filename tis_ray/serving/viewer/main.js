// The page: pictures come in, go to the service one after the other, and what it finds is looked at.

import { cocoOf, pngOf, save } from "./download.js";
import { Filters } from "./filters.js";
import { listenForFiles } from "./intake.js";
import { InstanceList } from "./list.js";
import { Palette } from "./palette.js";
import { Pyramid } from "./pyramid.js";
import { Queue } from "./queue.js";
import { instancesOf } from "./scene.js";
import { ensemble } from "./service.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { tabs } from "./tabs.js";
import { Views } from "./views.js";
import { Work } from "./work.js";

const $ = (id) => document.getElementById(id);
const found = new Map(); // instances by picture
let palette = new Palette();
let categories = null; // of the service, once it has said them
let current = null; // the picture that was chosen
let drawn = null; // the picture on the stage: the chosen one as soon as it is decoded
let opening = 0; // counts pictures that were opened: a slow one must not replace a later one

const queue = new Queue(changed);
const stage = new Stage({ canvas: $("canvas"), overview: $("overview"), tip: $("tip"), zoom: $("zoom") }, { select, key });
const strip = new Strip($("strip"), open);
const list = new InstanceList({ list: $("list"), order: $("order") }, (instance) => select(instance, { goes: true }));
const views = new Views({ table: $("views"), stages: $("stages"), hint: $("views-hint") }, refresh);
const filters = new Filters({
  score: $("score"), scoreShown: $("score-shown"), histogram: $("histogram"), from: $("size-from"), to: $("size-to"),
  classes: $("classes"), all: $("all-classes"), none: $("no-classes"),
}, refresh);
const work = new Work({
  card: $("work"), words: $("work-words"), clock: $("work-clock"), progress: $("work-progress"), cancel: $("cancel"),
  again: $("again"), door: $("door"), token: $("token"),
}, { cancel: () => queue.cancel(current), again: () => queue.again(current), unlock, say });

function say(words) {
  $("status").textContent = words;
}

function take(files) {
  document.body.classList.add("busy");
  open(queue.add(files)[0]);
}

function changed(picture) {
  if (picture.state === "done" && !categories) describe(queue.token);
  if (picture.state === "done" && found.get(picture)?.answer !== picture.answer) {
    found.set(picture, { answer: picture.answer, instances: instancesOf(picture.answer, palette) });
  }
  strip.update(picture, picture.state === "done" ? picture.answer.instances.length : null);
  if (picture === current) showAnswer();
}

async function open(picture) {
  for (const instance of found.get(current)?.instances ?? []) instance.release();
  current = picture;
  const turn = ++opening;
  strip.choose(picture);
  showAnswer();
  const pyramid = await Pyramid.open(picture.file).catch(() => null);
  if (turn !== opening) return pyramid?.close();
  stage.what.pyramid?.close();
  stage.open(pyramid);
  drawn = picture;
  return showAnswer();
}

/** Whether the chosen picture is on the stage and its answer is there. */
function isReady() {
  return current !== null && current === drawn && current.state === "done";
}

/** Bring everything in line with the state of the picture that is shown. */
function showAnswer() {
  work.show(current);
  const { answer, instances = [] } = (isReady() && found.get(current)) || {};
  const isNew = filters.instances !== instances;
  $("tab-panel-instances").inert = $("tab-panel-views").inert = !answer;
  if (answer && !stage.what.pyramid) stage.open(Pyramid.blank(answer.image.width, answer.image.height));
  if (!isNew && stage.what.instances.length) return;
  filters.open(instances);
  views.open(answer);
  select(null);
  refresh();
}

/** Another choice of what is shown. */
function refresh() {
  const { shown } = filters;
  if (!shown.includes(stage.what.selected)) select(null);
  stage.show({
    instances: shown, masks: $("masks").checked, boxes: $("boxes").checked, labels: $("labels").checked,
    opacity: Number($("opacity").value), view: shownView(),
  });
  list.show(shown);
  $("count").textContent = `${shown.length} of ${filters.instances.length}`;
  $("save-coco").disabled = $("save-png").disabled = !isReady();
  if (isReady()) say(summary(current, shown.length));
}

/** The view whose own boxes are shown, with those that the filters let through; else null. */
function shownView() {
  const view = views.shown;
  return view && { ...view, detections: view.detections.filter((box) => filters.acceptsBox(box)) };
}

function summary({ name, answer }, number) {
  const missing = answer.views.filter((view) => view.status !== "ok").length;
  const words = `${name}, ${answer.image.width} × ${answer.image.height} px: ${number} of ${answer.instances.length} instances shown, ${answer.timings.total_s.toFixed(2)} s.`;
  return answer.degraded ? `${words} Degraded: ${missing} of ${answer.views.length} views are missing.` : words;
}

function select(instance, { goes = false } = {}) {
  stage.show({ selected: instance });
  list.select(instance);
  const seen = views.mark(instance);
  $("selected").hidden = !instance;
  if (!instance) return;
  const place = `at ${instance.box.slice(0, 2).map(Math.round).join(", ")}`;
  const mask = instance.maskScore === null ? "" : `mask score ${instance.maskScore.toFixed(2)}`;
  $("said").textContent = $("selected").textContent = [instance.words, place, mask, seen].filter(Boolean).join(" · ");
  if (goes) stage.camera.show(instance.box);
}

function key(name) {
  const toggles = { m: "masks", b: "boxes", l: "labels" };
  if (name in toggles) $(toggles[name]).click();
  else if (name === "n" || name === "p") step(name === "n" ? 1 : -1);
  else if (name === "Enter" && stage.what.selected) stage.camera.show(stage.what.selected.box);
  else if (name === "Escape") select(null);
  else return false;
  return true;
}

function step(by) {
  const instance = list.step(by);
  if (instance) select(instance, { goes: true });
}

async function unlock(token) {
  if (await describe(token)) queue.unlock(token);
}

/** Learn what the service runs: classes for the colours and files, and what can be sent. Whether the token opens it. */
async function describe(token) {
  try {
    const content = await ensemble(token);
    categories = content.categories;
    palette = new Palette(categories);
    queue.maxBytes = content.limits.max_bytes;
    $("about").textContent = `${count(content.views.length, "view")}, ${count(categories.length, "class", "classes")}, model ${content.model_version}`;
  } catch (error) {
    $("about").textContent = error.status === 401 ? "asks for a token" : error.message;
    if (error.status === 401) work.askForToken(Boolean(token));
    return error.status !== 401;
  }
  return true;
}

function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

function saveCoco() {
  const done = queue.pictures.filter((picture) => picture.state === "done");
  const pictures = done.map((picture) => ({
    name: picture.name, answer: picture.answer,
    instances: found.get(picture).instances.filter((instance) => filters.accepts(instance)),
  }));
  const blob = new Blob([JSON.stringify(cocoOf(pictures, categories ?? []))], { type: "application/json" });
  save(blob, "instances.json");
  say(`Saved instances.json: ${count(pictures.length, "picture")}.`);
}

async function savePng() {
  const name = `${current.name.replace(/\.[^.]*$/, "")}-instances.png`;
  say("Drawing …");
  try {
    save(await pngOf(stage.what), name);
    say(`Saved ${name}.`);
  } catch (error) {
    say(`This browser cannot make a PNG of that size: ${error.message}`);
  }
}

listenForFiles({ input: $("files"), buttons: document.querySelectorAll(".choose") }, take, say);
$("explain").addEventListener("change", () => (queue.explain = $("explain").checked));
$("segment-again").addEventListener("click", () => queue.again(current));
for (const id of ["masks", "boxes", "labels", "opacity"]) $(id).addEventListener("input", refresh);
$("zoom-in").addEventListener("click", () => stage.camera.zoom(1.5));
$("zoom-out").addEventListener("click", () => stage.camera.zoom(1 / 1.5));
$("fit").addEventListener("click", () => stage.camera.fit());
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("save-coco").addEventListener("click", saveCoco);
$("save-png").addEventListener("click", savePng);
tabs(document.querySelector("[role=tablist]"));
describe("");
