"use strict";
// A value under the pointer at once, also where it is touched; without this script the browser
// shows the same texts after a moment.
const tip = document.getElementById("tip");
for (const spot of document.querySelectorAll(".spots circle")) {
  const title = spot.querySelector("title");
  spot.dataset.tip = title.textContent;
  spot.setAttribute("aria-label", title.textContent);
  title.remove();
}
function show(event) {
  const spot = event.target.closest ? event.target.closest(".spots circle") : null;
  tip.style.display = spot ? "block" : "none";
  if (!spot) return;
  tip.textContent = spot.dataset.tip;
  const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
  const top = event.clientY - tip.offsetHeight - 10;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = (top < 4 ? event.clientY + 16 : top) + "px";
}
document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
