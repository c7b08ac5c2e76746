// Mouse, fingers and keys on the picture, as moves of the camera and as choices.

const CLICK_PX = 5; // a press that moves less is a click
const STEP_PX = 80; // of an arrow key
const ZOOM = 1.5;

/** Let `camera` follow what is done on `canvas`; `on` has click(at), hover(at or null) and key(name). */
export function listen(canvas, camera, on) {
  const place = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };
  listenToWheel(canvas, camera, place);
  listenToPointers(canvas, camera, place, on);
  canvas.addEventListener("dblclick", (event) => camera.zoom(event.shiftKey ? 1 / 2 : 2, place(event)));
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (move(camera, event.key) || on.key(event.key)) event.preventDefault();
  });
}

function listenToWheel(canvas, camera, place) {
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const strength = event.ctrlKey ? 0.01 : 0.002; // a pinch on a touchpad comes as a wheel with the control key
    const delta = Math.max(-400, Math.min(400, event.deltaY * lines));
    camera.zoom(Math.exp(-delta * strength), place(event), { glides: Math.abs(delta) > 30 });
  }, { passive: false });
}

function listenToPointers(canvas, camera, place, on) {
  const down = new Map(); // where each pointer is
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    if (down.size === 1) moved = 0;
    else moved = Infinity;
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (!down.has(event.pointerId)) return on.hover(at);
    const before = [...down.values()];
    const last = down.get(event.pointerId);
    down.set(event.pointerId, at);
    moved += Math.hypot(at[0] - last[0], at[1] - last[1]);
    if (down.size === 2) pinch(camera, before, [...down.values()]);
    else if (down.size === 1 && moved >= CLICK_PX) camera.pan(at[0] - last[0], at[1] - last[1]);
    canvas.classList.toggle("dragged", moved >= CLICK_PX);
    return on.hover(null);
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    canvas.classList.remove("dragged");
    if (event.type === "pointerup" && moved < CLICK_PX) on.click(place(event));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => on.hover(null));
}

function pinch(camera, [a0, b0], [a1, b1]) {
  const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  const apart = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
  const [from, to] = [middle(a0, b0), middle(a1, b1)];
  camera.pan(to[0] - from[0], to[1] - from[1]);
  camera.zoom(apart(a1, b1) / apart(a0, b0), to, { glides: false });
}

function move(camera, key) {
  const moves = {
    ArrowLeft: () => camera.pan(STEP_PX, 0, { glides: true }),
    ArrowRight: () => camera.pan(-STEP_PX, 0, { glides: true }),
    ArrowUp: () => camera.pan(0, STEP_PX, { glides: true }),
    ArrowDown: () => camera.pan(0, -STEP_PX, { glides: true }),
    "+": () => camera.zoom(ZOOM),
    "=": () => camera.zoom(ZOOM),
    "-": () => camera.zoom(1 / ZOOM),
    0: () => camera.fit(),
    1: () => camera.zoom(1 / camera.target.scale),
  };
  moves[key]?.();
  return key in moves;
}
