// Puts things into the cart without leaving the page. Without this script the
// same forms work as forms.
"use strict";
const toast = document.getElementById("toast");
let timer;
function say(text) {
  toast.textContent = text;
  toast.classList.add("on");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("on"), 1800);
}
for (const form of document.querySelectorAll("form.buy")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      if (!answer.ok) throw new Error("the shop answered " + answer.status);
      const cart = await answer.json();
      document.getElementById("count").textContent = cart.count;
      say("In your cart.");
    } catch (error) {
      say("That didn't work: " + error.message);
    }
  });
}
