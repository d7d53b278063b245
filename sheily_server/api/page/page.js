"use strict";
const words = JSON.parse(document.body.dataset.words);
const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(document.documentElement.lang);
const POLL_MS = 1000;

// A proxy may have another origin, and a path of its own.
const here = new URL(".", location.href).href.replace(/\/$/, "");
for (const code of document.querySelectorAll(".here")) {
  code.textContent = code.textContent.replaceAll(document.body.dataset.origin, here);
}

for (const button of document.querySelectorAll("button")) {
  button.addEventListener("click", async () => {
    const code = at(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch { // pages over plain HTTP from another machine have no clipboard
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = words.copied;
    setTimeout(() => { button.textContent = words.copy; }, 1500);
  });
}

function say(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function count(used, all) {
  return words.of.replace("%1", number.format(used)).replace("%2", number.format(all));
}

function show(health) {
  at("state").dataset.state = health.state;
  say("state", words[health.state] ?? health.state);
  at("progress").hidden = health.progress === null;
  at("progress").value = health.progress ?? 0;
  const [reason, ...commands] = (health.reason ?? "").split("\n");
  say("reason", reason);
  at("reason").hidden = !reason;
  at("commands").hidden = !commands.length;
  say("lines", commands.join("\n"));
  if (health.state === "unreachable") return;
  say("model", health.model);
  say("context", words.tokens.replace("%1", number.format(health.context_size)));
  const speed = health.tokens_per_second;
  say("speed", speed ? words.speed.replace("%1", number.format(Math.round(speed * 10) / 10)) : words.idle);
  say("running", count(health.active_requests - health.queued, health.parallel));
  say("queued", count(health.queued, health.queue));
}

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch("health", { cache: "no-store" });
      show(await answer.json());
    } catch {
      show({ state: "unreachable", progress: null, reason: null });
    }
  }
  setTimeout(poll, POLL_MS);
}

poll();
