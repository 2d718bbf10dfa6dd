// What the console does in the browser: relative times, the filters of the health table, the word that the hub is away.
// Loaded before the components; no module of others is used.
"use strict";

window.weinao = (() => {
  const zh = () => document.documentElement.lang === "zh";
  const levels = "0123456789abcdefghijklmnopqrstuvwxyz";
  let grid = null;
  let wanted = read();

  function read() {
    const query = new URLSearchParams(location.search);
    const found = {};
    for (const key of ["text", "kind", "owner", "area", "gateway", "group"]) found[key] = query.get(key) || "";
    return found;
  }

  function plain(text) {
    return text.normalize("NFKC").toLowerCase();
  }

  function ago(text) {
    if (!text) return "–";
    const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
    const [n, unit] =
      seconds < 120 ? [seconds, 0] : seconds < 7200 ? [seconds / 60, 1] : seconds < 172800 ? [seconds / 3600, 2] : [seconds / 86400, 3];
    const words = zh() ? ["秒前", "分钟前", "小时前", "天前"] : ["s ago", "min ago", "h ago", "d ago"];
    return `${Math.floor(n)} ${words[unit]}`;
  }

  function badge(params) {
    const made = document.createElement("span");
    made.className = `badge kind-${params.data.kindCode}`;
    made.textContent = params.value;
    return made;
  }

  function spark(params) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const text = params.value || "";
    made.setAttribute("class", "spark");
    made.setAttribute("viewBox", "0 0 96 28");
    made.setAttribute("aria-hidden", "true");
    if (text.length > 1) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      const step = 96 / (text.length - 1);
      const points = [...text].map((level, at) => `${(at * step).toFixed(1)},${(26 - (levels.indexOf(level) / 35) * 24).toFixed(1)}`);
      line.setAttribute("points", points.join(" "));
      made.append(line);
    }
    return made;
  }

  function byRank(a, b, first, second) {
    return first.data.rank - second.data.rank || Date.parse(first.data.since || 0) - Date.parse(second.data.since || 0);
  }

  function fitsBesideKind(row) {
    if (wanted.owner && row.owner !== wanted.owner) return false;
    if (wanted.gateway && row.path !== wanted.gateway) return false;
    if (wanted.area && !`${row.path}/`.startsWith(`${wanted.area}/`)) return false;
    return !wanted.text || plain(`${row.id} ${row.owner} ${row.contact}`).includes(plain(wanted.text));
  }

  function fitsKind(row, kind) {
    if (!kind) return true;
    return kind === "trouble" ? row.kindCode !== "fine" : row.kindCode === kind;
  }

  function fits(node) {
    return fitsBesideKind(node.data) && fitsKind(node.data, wanted.kind);
  }

  function group(row) {
    if (wanted.group === "area") return `${row.city}/${row.area}`;
    return row[wanted.group] || "–";
  }

  let due = null;
  function counted() {
    clearTimeout(due);
    due = setTimeout(count, 50);
  }

  function count() {
    if (!grid) return;
    const kinds = {};
    const groups = new Map();
    let shown = 0;
    grid.forEachNode((node) => {
      const row = node.data;
      if (!fitsBesideKind(row)) return;
      kinds[row.kindCode] = (kinds[row.kindCode] || 0) + 1;
      if (!fitsKind(row, wanted.kind)) return;
      shown += 1;
      if (!wanted.group) return;
      const sum = groups.get(group(row)) || { count: 0, trouble: 0 };
      sum.count += 1;
      if (row.kindCode !== "fine") sum.trouble += 1;
      groups.set(group(row), sum);
    });
    const all = Object.values(kinds).reduce((sum, one) => sum + one, 0);
    for (const chip of document.querySelectorAll("[data-kind]")) {
      const kind = chip.dataset.kind;
      const number = kind === "" ? all : kind === "trouble" ? all - (kinds.fine || 0) : kinds[kind] || 0;
      chip.querySelector(".n").textContent = String(number);
      chip.setAttribute("aria-pressed", String(kind === wanted.kind));
    }
    const place = document.getElementById("count");
    if (place) place.textContent = place.dataset.words.replace("{count}", String(shown));
    drawGroups(groups);
  }

  function drawGroups(groups) {
    const place = document.getElementById("groups");
    if (!place) return;
    place.replaceChildren();
    for (const [name, sum] of [...groups].sort((a, b) => b[1].trouble - a[1].trouble || a[0].localeCompare(b[0]))) {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = `${name}: ${sum.trouble} / ${sum.count}`;
      const key = wanted.group === "path" ? "gateway" : wanted.group;
      made.addEventListener("click", () => want({ [key]: name === "–" ? "" : name, group: "" }));
      place.append(made);
    }
  }

  function want(more) {
    wanted = { ...wanted, ...more };
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(wanted)) if (value) query.set(key, value);
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
    show();
    if (grid) grid.onFilterChanged();
    counted();
  }

  function show() {
    const form = document.getElementById("filters");
    if (!form) return;
    const text = form.querySelector("[name=text]");
    if (document.activeElement !== text) text.value = wanted.text;
    form.querySelector("[name=group]").value = wanted.group;
    const link = document.getElementById("export");
    const query = new URLSearchParams({ format: "csv", lang: link.dataset.lang });
    for (const key of ["text", "kind", "owner", "area", "gateway"]) if (wanted[key]) query.set(key, wanted[key]);
    link.href = `/api/v1/devices?${query}`;
  }

  function ready(event) {
    grid = event.api;
    window.weinaoGrid = grid;
    const form = document.getElementById("filters");
    form.addEventListener("submit", (submitted) => submitted.preventDefault());
    form.querySelector("[name=text]").addEventListener("input", (typed) => want({ text: typed.target.value.trim() }));
    form.querySelector("[name=group]").addEventListener("change", (chosen) => want({ group: chosen.target.value }));
    for (const chip of form.querySelectorAll("[data-kind]"))
      chip.addEventListener("click", () => want({ kind: chip.dataset.kind }));
    document.getElementById("clear").addEventListener("click", () => {
      form.querySelector("[name=text]").value = "";
      want({ text: "", kind: "", owner: "", area: "", gateway: "", group: "" });
    });
    show();
    grid.onFilterChanged();
    counted();
  }

  function times() {
    for (const one of document.querySelectorAll("time.ago")) {
      const text = ago(one.getAttribute("datetime"));
      if (one.textContent !== text) one.textContent = text;
    }
  }

  setInterval(times, 1000);
  new MutationObserver(times).observe(document.documentElement, { childList: true, subtree: true });
  setInterval(() => {
    if (grid && !grid.isDestroyed()) grid.refreshCells({ columns: ["since", "last_good"] });
  }, 5000);

  // NiceGUI says by itself when it has lost the server; we say it in our words, where it can be read.
  setInterval(() => {
    const place = document.querySelector(".lost");
    if (place) {
      const lost = Boolean(window.socket && !window.socket.connected);
      place.textContent = lost ? place.dataset.words : "";
      place.classList.toggle("on", lost);
    }
  }, 500);

  return { ago: (params) => ago(params.value), badge, spark, byRank, fits, ready, counted };
})();
