"use strict";
// Keeps a page that is open as it would be if it were read anew: the server tells that there is something new, the page is
// fetched again, and what differs is put in its place. Without this script a page stays as it was and works the same.
(() => {
  const main = document.getElementById("main");
  const state = document.getElementById("live");
  let shown = Number(main.dataset.shown);
  let busy = false;
  let wanted = 0;

  // The states of what people opened outlive the new text around it.
  const put = (old, fresh) => {
    if (old.outerHTML === fresh.outerHTML) return;
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    if (focus && focus.matches("input, textarea, select")) return;
    const before = [...old.querySelectorAll("details")];
    [...fresh.querySelectorAll("details")].forEach((now, at) => { if (before[at]?.open) now.open = true; });
    old.replaceWith(fresh);
    const same = focus?.id ? document.getElementById(focus.id) : focus?.getAttribute("href") && fresh.querySelector(`[href="${CSS.escape(focus.getAttribute("href"))}"]`);
    same?.focus({ preventScroll: true });
  };
  const merge = (page) => {
    for (const fresh of page.querySelectorAll("[data-part]")) {
      const old = document.getElementById(fresh.id);
      if (old) put(old, fresh);
    }
    for (const fresh of page.querySelectorAll("[data-list]")) {
      const old = document.getElementById(fresh.id);
      for (const item of [...fresh.children]) {
        const there = document.getElementById(item.id);
        if (there) put(there, item); else old?.append(item);
      }
    }
  };
  const refresh = async () => {
    if (busy) return;
    busy = true;
    while (shown < wanted) {
      const upto = wanted;
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" }).catch(() => null);
      if (!answer?.ok) { if (answer?.status === 401) location.reload(); break; }
      merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
      shown = upto;
    }
    busy = false;
  };
  if (main.dataset.events) {
    const source = new EventSource(main.dataset.events);
    source.addEventListener("open", () => { state.textContent = "live"; });
    source.addEventListener("error", () => { state.textContent = "connecting"; });
    source.addEventListener("change", (event) => { wanted = Number(event.lastEventId); refresh(); });
  }

  // `/` goes to the search, `j` and `k` from one line of a list to the next.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const step = { j: 1, k: -1 }[event.key];
    if (step) {
      const lines = [...document.querySelectorAll("[data-row]")];
      const at = lines.indexOf(document.activeElement);
      lines[at < 0 ? 0 : Math.min(Math.max(at + step, 0), lines.length - 1)]?.focus();
    } else if (event.key === "/") {
      const search = document.getElementById("q");
      if (search) { event.preventDefault(); search.focus(); } else { location.assign("/runs"); }
    }
  });
})();
