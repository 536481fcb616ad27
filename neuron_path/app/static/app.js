"use strict";

const named = (element, name) => element.querySelector(`[name="${name}"]`);

// Before htmx sends anything: a picture is either dropped or picked, so choosing it one way takes back the other.
document.addEventListener("change", ({ target }) => {
  const other = { file: "sample", sample: "file" }[target.name];
  if (other) named(target.closest(".card"), other).value = "";
  if (target.id === "neuron") {
    for (const node of document.querySelectorAll("#path .node")) node.classList.toggle("chosen", node.dataset.neuron === target.value);
  }
}, true);

document.addEventListener("input", ({ target }) => {
  if (target.type === "range") target.closest("label").querySelector("b").textContent = target.value;
});

document.addEventListener("click", ({ target }) => {
  const node = target.closest("#path .node");
  if (node) {
    const list = document.getElementById("neuron");
    list.value = node.dataset.neuron;
    list.dispatchEvent(new Event("change", { bubbles: true }));
  }
  const button = target.closest("[data-copies]");
  if (button) {
    navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent).then(() => {
      button.textContent = "Copied";
    });
  }
});

// The second picture is picked from the same lists as the first.
document.addEventListener("htmx:afterSwap", ({ target }) => {
  if (target.id !== "found") return;
  for (const name of ["sample", "target_class"]) {
    named(target, name).innerHTML = named(document.getElementById("choose"), name).innerHTML;
  }
});

for (const failure of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(failure, () => {
    document.getElementById("error").textContent = failure === "htmx:sendError"
      ? "The page's server does not answer: start neuron-path app again."
      : "Something went wrong: the terminal in which neuron-path app runs says what.";
  });
}
