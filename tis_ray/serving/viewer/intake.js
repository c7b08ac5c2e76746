// How pictures come in: chosen, dropped anywhere on the page, or pasted.

const NAMES = /\.(jpe?g|jp2|png|webp|bmp|gif|tiff?|ppm)$/i;

/** Call `take(pictures)` for files that are pictures, `say(words)` for the first that is none. */
export function listenForFiles({ input, buttons }, take, say) {
  const given = (files) => {
    const pictures = files.filter((file) => file.type.startsWith("image/") || NAMES.test(file.name));
    if (pictures.length < files.length) say(`${files.find((file) => !pictures.includes(file)).name} is no picture.`);
    if (pictures.length) take(pictures);
  };
  for (const button of buttons) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    given([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
  const over = (is) => document.body.classList.toggle("over", is);
  addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? over(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    given([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => given([...event.clipboardData.files]));
}
