"use strict";
(() => {
  const form = document.querySelector("nav form");
  const groups = [...document.querySelectorAll(".group")];
  const empty = document.querySelector(".empty");
  const dialog = document.querySelector("dialog");

  function filter() {
    const kinds = new Set([...form.querySelectorAll("input[type=checkbox]:checked")].map((box) => box.value));
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const group of groups) {
      const fits = group.dataset.kinds.split(" ").some((kind) => kinds.has(kind)) && words.every((word) => group.dataset.names.includes(word));
      group.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    form.elements.shown.value = `${shown} of ${groups.length} groups`;
    empty.hidden = shown > 0;
  }

  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    filter();
  }
  document.addEventListener("click", (event) => {
    const view = event.target.closest(".views button");
    if (view) {
      dialog.querySelector("img").src = view.querySelector("img").src;
      dialog.querySelector("span").textContent = view.title;
      dialog.showModal();
    } else if (event.target === dialog || event.target.closest("dialog button")) {
      dialog.close();
    }
  });
})();
