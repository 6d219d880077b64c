"use strict";
// Light or dark: the system's choice unless the reader makes another, which is remembered where the browser allows it.

for (const note of document.querySelectorAll(".unscripted")) note.remove();

(() => {
  const button = document.getElementById("theme"), kinds = ["system", "light", "dark"], key = "run-recorder-theme";
  const remembered = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const apply = (kind) => {
    if (kind === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = kind;
    button.textContent = `Theme: ${kind}`;
    try { localStorage.setItem(key, kind); } catch { /* a page from a file may have no storage */ }
  };
  let now = kinds.includes(remembered()) ? remembered() : "system";
  button.hidden = false;
  button.addEventListener("click", () => apply(now = kinds[(kinds.indexOf(now) + 1) % kinds.length]));
  apply(now);
})();
