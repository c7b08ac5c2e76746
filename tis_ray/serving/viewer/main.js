const $ = (id) => document.getElementById(id);
const state = { bitmap: null, instances: [], chosen: null, file: null };

// COCO's compressed RLE: 5-bit groups, from the third count on the difference to the one two before.
function counts(text) {
  const runs = [];
  for (let p = 0; p < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const group = text.charCodeAt(p++) - 48;
      value |= (group & 0x1f) << shift;
      more = (group & 0x20) !== 0;
      shift += 5;
      if (!more && (group & 0x10) && shift < 32) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

const hue = (id) => (id * 137.508) % 360;

function drawMask(context, rle, colour) {
  const height = rle.size[0];
  context.fillStyle = colour;
  let position = 0;
  counts(rle.counts).forEach((run, i) => {
    let start = position;
    position += run;
    while (i % 2 && start < position) {
      const x = Math.floor(start / height), y = start % height;
      const length = Math.min(position - start, height - y);
      context.fillRect(x, y, 1, length);
      start += length;
    }
  });
}

function draw() {
  const canvas = $("canvas"), context = canvas.getContext("2d"), from = Number($("threshold").value);
  $("shown").value = from.toFixed(2);
  if (!state.bitmap) return;
  canvas.width = state.bitmap.width;
  canvas.height = state.bitmap.height;
  context.drawImage(state.bitmap, 0, 0);
  const shown = state.instances.filter((instance) => instance.score >= from);
  context.lineWidth = Math.max(1, canvas.width / 900);
  for (const instance of shown) {
    const strong = instance === state.chosen;
    if (instance.segmentation) drawMask(context, instance.segmentation, `hsl(${hue(instance.category_id)} 90% 50% / ${strong ? .8 : .45})`);
    context.strokeStyle = strong ? "#fff" : `hsl(${hue(instance.category_id)} 90% 45%)`;
    context.strokeRect(...instance.bbox);
  }
  return shown;
}

function list(shown) {
  const body = $("list").querySelector("tbody");
  body.replaceChildren();
  $("count").textContent = shown.length ? `(${shown.length})` : "(none)";
  for (const instance of shown) {
    const row = body.insertRow(), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `hsl(${hue(instance.category_id)} 90% 45%)`;
    row.insertCell().append(swatch, instance.category);
    cell(row, instance.score.toFixed(3));
    cell(row, `${Math.round(instance.bbox[2])}×${Math.round(instance.bbox[3])} px`);
    row.onmouseenter = () => { state.chosen = instance; draw(); };
    row.onmouseleave = () => { state.chosen = null; draw(); };
  }
}

function cell(row, text) {
  const made = row.insertCell();
  made.className = "number";
  made.textContent = text;
}

function table(id, rows) {
  const body = $(id).querySelector("tbody");
  body.replaceChildren();
  for (const [name, ...values] of rows) {
    const row = body.insertRow();
    row.insertCell().textContent = name;
    values.forEach((value) => cell(row, value));
  }
}

function say(text, kind = "info") {
  $("message").textContent = text;
  $("message").dataset.kind = kind;
}

async function segment(file) {
  state.file = file;
  say(`Segmenting ${file.name} …`);
  const headers = { "Content-Type": file.type || "image/jpeg" };
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  let answer;
  try {
    const response = await fetch("v1/segment", { method: "POST", headers, body: file });
    answer = await response.json();
    if (response.status === 401) $("tokenField").hidden = false;
    if (!response.ok) return say(`${answer.title}: ${answer.detail}`, "error");
  } catch (error) {
    return say(`The service did not answer: ${error.message}`, "error");
  }
  try {
    // Pixels as stored: the service ignores EXIF orientation too.
    state.bitmap = await createImageBitmap(file, { imageOrientation: "none" });
  } catch {
    state.bitmap = new OffscreenCanvas(answer.image.width, answer.image.height);  // a type this browser cannot show
    state.bitmap.getContext("2d");
  }
  state.instances = answer.instances;
  state.chosen = null;
  $("hint").hidden = true;
  $("canvas").hidden = false;
  $("stage").classList.add("full");
  list(draw());
  table("views", answer.views.map((view) =>
    [`${view.member}@${view.scale}${view.crop_name ? `.${view.crop_name}` : ""}${view.flip ? " flipped" : ""}`, view.status, view.instances, `${view.seconds.toFixed(2)} s`]));
  table("timings", Object.entries(answer.timings).map(([name, seconds]) =>
    [name.replace(/_s$/, ""), `${(1000 * seconds).toFixed(0)} ms`]));
  say(`${answer.image.width}×${answer.image.height} px, model ${answer.model_version}${answer.degraded ? ", degraded: a view is missing" : ""}`);
}

$("file").onchange = () => { if ($("file").files[0]) segment($("file").files[0]); };
$("token").onchange = () => { if (state.file) segment(state.file); };
$("threshold").oninput = () => { const shown = draw(); if (shown) list(shown); };
$("stage").ondragover = (event) => { event.preventDefault(); $("stage").classList.add("over"); };
$("stage").ondragleave = () => $("stage").classList.remove("over");
$("stage").ondrop = (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  if (event.dataTransfer.files[0]) segment(event.dataTransfer.files[0]);
};
