// Keeps a page true without a reload: fetches it anew each second and changes what differs, so that focus, scroll and
// typing stay. Without script the page works too; it is then true when it is loaded.
"use strict";
(() => {
  const PAUSE_MS = 1000;
  // A slow gateway or a bad hotspot gets more rest: at most a fifth of the time is spent on us.
  const REST = 4;
  const PATIENCE_MS = 8000;
  const main = document.querySelector("main[data-live]");
  const stale = document.querySelector("[data-stale]");

  function keyed(nodes) {
    return nodes.length > 0 && nodes.every((node) => node.nodeType === 1 && node.id);
  }

  function reorder(old, fresh) {
    const known = new Map([...old.children].map((node) => [node.id, node]));
    for (const [place, node] of [...fresh.children].entries()) {
      const mine = known.get(node.id) || document.importNode(node, true);
      known.delete(node.id);
      if (old.children[place] !== mine) old.insertBefore(mine, old.children[place] || null);
    }
    for (const node of known.values()) node.remove();
  }

  function attributes(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
  }

  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(document.importNode(fresh, true));
    } else if (old.nodeType !== 1) {
      if (old.data !== fresh.data) old.data = fresh.data;
    } else if (!old.hasAttribute("data-keep")) {
      attributes(old, fresh);
      if (keyed([...old.children]) && keyed([...fresh.children])) reorder(old, fresh);
      const mine = [...old.childNodes];
      const theirs = [...fresh.childNodes];
      theirs.forEach((node, place) => {
        if (place < mine.length) become(mine[place], node);
        else old.append(document.importNode(node, true));
      });
      mine.slice(theirs.length).forEach((node) => node.remove());
    }
  }

  async function beat() {
    const began = performance.now();
    try {
      const answer = await fetch(location.pathname + location.search, {
        headers: { "X-Live": "1" },
        cache: "no-store",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      become(main, page.querySelector("main"));
      stale.hidden = true;
      document.body.classList.remove("is-stale");
    } catch {
      stale.hidden = false;
      document.body.classList.add("is-stale");
    }
    setTimeout(next, Math.max(PAUSE_MS, REST * (performance.now() - began)));
  }

  function next() {
    // A phone in a pocket asks nothing.
    if (document.hidden) document.addEventListener("visibilitychange", next, { once: true });
    else beat();
  }

  if (main) setTimeout(next, PAUSE_MS);

  for (const form of document.querySelectorAll("form[data-busy]")) {
    form.addEventListener("submit", () => {
      const button = form.querySelector("button");
      button.textContent = form.dataset.busy;
      button.setAttribute("aria-busy", "true");
      setTimeout(() => { button.disabled = true; }, 0);
    });
  }
  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => window.print());
  }
})();
