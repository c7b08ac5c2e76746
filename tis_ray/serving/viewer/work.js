// The card over the picture: what it waits for, what went wrong, and the token where the service asks for one.

export class Work {
  /** `on` has cancel(), again(), unlock(token) and say(words). */
  constructor(parts, on) {
    Object.assign(this, parts, { on });
    this.timer = 0;
    this.picture = null;
    this.cancel.addEventListener("click", on.cancel);
    this.again.addEventListener("click", on.again);
    this.door.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.token.value.trim();
      if (!token) return;
      this.door.hidden = true;
      on.unlock(token);
    });
  }

  /** Show how far a picture is. */
  show(picture) {
    const { state, name, problem } = picture;
    this.picture = picture;
    const isGoing = ["waiting", "running", "pausing"].includes(state);
    this.card.hidden = state === "done" || state === "locked";
    this.card.dataset.state = state;
    this.progress.hidden = !isGoing;
    this.cancel.hidden = !isGoing;
    this.again.hidden = isGoing;
    this.words.textContent = { waiting: `${name} waits for its turn.`, running: `Segmenting ${name} …` }[state] ?? problem;
    if (!this.card.hidden) this.on.say(this.words.textContent);
    if (state === "locked") this.askForToken(this.token.value !== "");
    clearInterval(this.timer);
    if (isGoing) this.timer = setInterval(() => this.tick(), 100);
    this.tick();
  }

  /** The form for a token; `wasWrong` where one was tried. */
  askForToken(wasWrong) {
    const label = this.door.querySelector("label");
    label.textContent = wasWrong ? "That token was not accepted. Token" : "This service asks for a token";
    if (!this.door.hidden) return;
    this.door.hidden = false;
    this.token.select();
    this.token.focus();
  }

  tick() {
    const { state, startedAt, retryAt } = this.picture;
    const now = performance.now();
    if (state === "running") this.clock.textContent = `${((now - startedAt) / 1000).toFixed(1)} s`;
    else if (state === "pausing") this.clock.textContent = `next try in ${Math.ceil(Math.max(0, retryAt - now) / 1000)} s`;
    else this.clock.textContent = "";
  }
}
