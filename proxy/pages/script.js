// What the pages do where JavaScript is on: show what happens now, count time, send forms, go on when it is ready.
// Each mark in the markup is read here and by the server (pages/templates.py), so both show the same:
//   data-text="name"         its text is that value
//   data-if="name"           shown while that value is true
//   data-attr="href=name …"  an attribute is that value
//   data-each="name"         a list item for each text of that list
//   data-up / data-down="name"  a number of seconds that goes on from when it came; hidden where there is none
"use strict";
(() => {
  const SILENCE = 40000; // ms; the server speaks every 15 s, so it is gone, or something holds back what it says
  const BRIEF = 120000; // ms; what a restart of the proxy may take
  const page = document.querySelector("main");
  const said = document.getElementById("said");
  const now = () => performance.now() / 1000;

  function duration(seconds) {
    const whole = Math.max(0, Math.floor(seconds)), minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
    if (whole < 60) return whole + " s";
    if (minutes < 10) return minutes + " min " + String(whole % 60).padStart(2, "0") + " s";
    if (hours < 1) return minutes + " min";
    if (hours < 24) return hours + " h " + String(minutes % 60).padStart(2, "0") + " min";
    return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
  }

  function fraction(seconds, usual) { // 90 % at the usual time, and never all of it
    return seconds < usual ? 0.9 * seconds / usual : 1 - 0.1 * Math.exp(1 - seconds / usual);
  }

  function put(node, text) {
    if (node.textContent !== text) node.textContent = text; // a screen reader reads again what is written again
  }

  function show(scope, view) {
    const marked = (name) => scope.querySelectorAll("[data-" + name + "]");
    for (const node of marked("text")) put(node, String(view[node.dataset.text] ?? ""));
    for (const node of marked("if")) node.hidden = !view[node.dataset.if];
    for (const node of marked("attr")) {
      for (const pair of node.dataset.attr.split(" ")) {
        const [name, field] = pair.split("=");
        if (view[field] === null) node.removeAttribute(name);
        else if (node.getAttribute(name) !== String(view[field])) node.setAttribute(name, view[field]);
      }
    }
    for (const node of marked("each")) {
      const texts = view[node.dataset.each];
      if (texts.join("\n") !== [...node.children].map((item) => item.textContent).join("\n")) {
        node.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
      }
    }
    for (const choice of scope.querySelectorAll("select")) {
      const value = choice.dataset.value ?? "";
      if (choice.known !== value) choice.value = choice.known = value; // else what somebody is about to choose stays
    }
    for (const [name, sign] of [["up", 1], ["down", -1]]) {
      for (const node of marked(name)) {
        const seconds = view[node.dataset[name]];
        node.hidden = seconds === null;
        node.counted = seconds === null ? null : { at: now(), seconds, sign };
      }
    }
    for (const bar of scope.querySelectorAll("progress")) bar.usual = view.usual_seconds ?? 15;
    tick();
  }

  function read(node) {
    if (!node.counted) return null;
    return node.counted.seconds + node.counted.sign * (now() - node.counted.at);
  }

  function tick() {
    for (const node of document.querySelectorAll("[data-up], [data-down]")) {
      const seconds = read(node);
      if (seconds !== null) put(node, duration(node.counted.sign < 0 ? Math.ceil(seconds) : seconds));
    }
    for (const bar of document.querySelectorAll("progress")) {
      const seconds = read(document.getElementById(bar.dataset.of));
      if (seconds !== null) bar.value = fraction(seconds, bar.usual);
    }
    for (const button of document.querySelectorAll("[data-after]")) { // not before the back-off is over
      const seconds = read(document.getElementById(button.dataset.after));
      button.setAttribute("aria-disabled", String(seconds !== null && seconds > 0));
    }
    for (const node of document.querySelectorAll("[data-over]")) {
      const seconds = read(document.getElementById(node.dataset.over));
      node.hidden = seconds === null || seconds <= 0;
    }
  }

  // One workspace ------------------------------------------------------------------------------------------------

  let state = page.dataset.state, cutAt = Date.now(); // the first news may be of a replica that knows of no start

  function onWorkspace(view) {
    const before = state;
    state = view.state;
    if (state === "running" && page.dataset.go) return leave(page.dataset.go);
    // The proxy was restarted under a start, which ended with it: ask for it again, once. A laptop that has slept for
    // hours asks for nothing.
    const wasCut = cutAt && Date.now() - cutAt < BRIEF;
    if (state === "stopped" && before === "starting" && wasCut && page.dataset.go) return leave(page.dataset.go);
    cutAt = 0;
    page.dataset.state = state;
    document.title = view.title;
    keepingFocus(page, () => show(page, view));
  }

  function leave(url) {
    stop();
    if (url === "here") location.reload();
    else location.replace(url);
  }

  // All workspaces -----------------------------------------------------------------------------------------------

  function onWorkspaces(news) {
    const list = page.querySelector(".rows"), rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
    for (const id of news.gone) rows.get(id)?.remove();
    if (news.is_all) { // of a stream that was opened anew: what is not in it is gone, or another replica's
      const ids = new Set(news.views.map((view) => view.id));
      for (const [id, row] of rows) if (!ids.has(id)) row.remove();
    }
    for (const view of news.views) {
      let row = rows.get(view.id);
      if (!row) {
        row = document.getElementById("row").content.firstElementChild.cloneNode(true);
        row.dataset.id = view.id;
        const after = [...list.children].find((other) => other.dataset.id > view.id);
        list.insertBefore(row, after ?? null);
      }
      if (row.dataset.state && row.dataset.state !== view.state) put(said, view.announcement);
      row.dataset.state = view.state;
      keepingFocus(row, () => show(row, view));
    }
    page.querySelector("#none").hidden = list.children.length > 0;
    put(page.querySelector("#summary"), news.summary);
  }

  function keepingFocus(scope, change) {
    const focused = document.activeElement;
    change();
    if (scope.contains(focused) && focused.offsetParent === null) {
      const [next] = [...scope.querySelectorAll("h1, h2 a")].filter((node) => node.offsetParent !== null);
      if (next) next.focus();
    }
  }

  // Where news comes from: a stream that is opened again whenever it ends, for EventSource gives up on an error ----

  let source = null, again = 0, silence = 0, pause = 500;

  function connect() {
    stop();
    source = new EventSource(page.dataset.events);
    const opened = source;
    watch();
    source.onmessage = (event) => {
      if (source !== opened) return;
      pause = 500;
      watch();
      document.getElementById("cut").hidden = true;
      const news = JSON.parse(event.data);
      if (news.views) onWorkspaces(news);
      else onWorkspace(news);
    };
    source.onerror = lose;
  }

  function watch() {
    clearTimeout(silence);
    silence = setTimeout(lose, SILENCE);
  }

  function lose() {
    stop();
    cutAt = cutAt || Date.now();
    if (page.dataset.go) ask();
    if (pause > 1000) document.getElementById("cut").hidden = false;
    again = setTimeout(connect, pause * (0.75 + Math.random() / 2));
    pause = Math.min(pause * 1.6, 5000);
  }

  async function ask() { // where no events come through, too, whoever waits goes on
    try {
      const answer = await fetch(page.dataset.events.replace(/events.*/, "status"));
      if ((await answer.json()).phase === "running") leave(page.dataset.go);
    } catch { /* it is asked again */ }
  }

  function stop() {
    clearTimeout(again);
    clearTimeout(silence);
    if (source) source.close();
    source = null;
  }

  // A browser has few connections to one host: who is not looked at gives its own back, unless somebody waits.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) connect();
    else if (page.dataset.state !== "starting") stop();
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => { if (event.persisted) connect(); });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[aria-disabled=true]")) event.preventDefault();
  });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.method !== "post" || form.dataset.leaves !== undefined) return;
    event.preventDefault();
    const button = event.submitter;
    if (button) button.setAttribute("aria-disabled", "true");
    const body = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body });
      const told = await answer.json();
      put(said, answer.ok ? form.dataset.done ?? "" : told.detail);
      report(form, answer.ok ? "" : told.detail);
      if (answer.ok) fold(form.closest("details"));
    } catch {
      report(form, "The proxy did not answer. Try again.");
    } finally {
      if (button) button.removeAttribute("aria-disabled");
    }
  });

  function fold(details) {
    if (!details) return;
    const wasInside = details.contains(document.activeElement);
    details.open = false;
    if (wasInside) details.querySelector("summary").focus();
  }

  function report(form, text) {
    let note = form.querySelector(".refusal");
    if (!note && text) {
      note = document.createElement("p");
      note.className = "refusal";
      form.append(note);
    }
    if (note) put(note, text);
  }

  // What the server wrote is taken as it stands: the numbers go on from there.
  for (const node of document.querySelectorAll("[data-seconds]")) {
    const sign = "up" in node.dataset ? 1 : -1;
    node.counted = { at: now(), seconds: Number(node.dataset.seconds), sign };
  }
  for (const bar of document.querySelectorAll("progress")) bar.usual = Number(bar.dataset.usual);
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
  tick();
  if (!document.hidden || page.dataset.state === "starting") connect();
})();
