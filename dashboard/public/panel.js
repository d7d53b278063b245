// The panel beside the conversation: the model's state, and the figures of the last answer.

import { errorText, number } from "./texts.js";

const byId = (id) => document.getElementById(id);

export class Panel {
  constructor() {
    this._state = document.querySelector(".state");
    // Where there is room the facts are always shown, and there is no such button.
    const more = byId("more");
    more.addEventListener("click", () => {
      const open = byId("panel").classList.toggle("open");
      more.setAttribute("aria-expanded", String(open));
    });
  }

  /** `health` is what the server says of itself; see `fetchHealth`. */
  showHealth(health, language, texts) {
    const state = health.state in texts.state ? health.state : "unknown";
    this._state.dataset.state = state;
    const percent = health.progress ?? null;
    const loading = percent !== null && (state === "loading" || state === "restarting");
    setText("state-text", texts.state[state]);
    setText("state-percent", loading ? `${number(language, 100 * percent)} %` : "");
    byId("loading-bar").hidden = !loading;
    if (loading) byId("loading-bar").value = percent;
    const translated = state === "offline" ? errorText(language, health.code) : null;
    byId("reason").hidden = !health.reason;
    byId("reason").lang = translated ? language : "en"; // as the server words it
    setText("reason", translated ?? health.reason ?? "");
    if (state === "offline") {
      setText("active", "–");
      return;
    }
    const digits = (value) => (Number.isFinite(value) ? number(language, value) : "–");
    setText("model-id", health.model ?? "–");
    byId("model-id").title = health.model_path ?? "";
    const size = health.context_size;
    setText("context-size", Number.isFinite(size) ? texts.tokens(digits(size)) : "–");
    setText("active", texts.ofParallel(digits(health.active_requests), digits(health.parallel)));
    setText("restarts", digits(health.engine_restarts));
  }

  /** `turn` is undefined in a new conversation. */
  showTurn(turn, health, language, texts) {
    const speed = turn?.speed;
    const after = turn?.firstAfter;
    const usage = turn?.usage;
    setText("last-speed", speed ? texts.perSecond(number(language, speed, 1)) : "–");
    const known = after !== null && after !== undefined;
    setText("last-first", known ? texts.seconds(number(language, after, 2)) : "–");
    const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
    const prompt = usage
      ? texts.cached(number(language, usage.prompt_tokens), number(language, cached))
      : "–";
    setText("last-prompt", prompt);
    const size = health?.context_size;
    const used = usage && size ? usage.total_tokens : null;
    byId("used-bar").value = used === null ? 0 : used / size;
    const ofContext = () => texts.ofContext(number(language, used), number(language, size));
    setText("last-used", used === null ? "–" : ofContext());
  }
}

/** Only what changed is written: a status that is written again is read out again. */
function setText(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}
