// Tabs of which one is seen: arrow keys go from one to the next.

/** Let the tabs in `list` show the panels that they control. */
export function tabs(list) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const one of all) {
      one.ariaSelected = String(one === tab);
      one.tabIndex = one === tab ? 0 : -1;
      document.getElementById(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
  };
  for (const tab of all) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", ({ key }) => {
      if (key !== "ArrowLeft" && key !== "ArrowRight") return;
      const next = all[(all.indexOf(tab) + (key === "ArrowRight" ? 1 : all.length - 1)) % all.length];
      choose(next);
      next.focus();
    });
  }
}
