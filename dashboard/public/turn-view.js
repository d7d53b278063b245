// One question and its answer on the page. All text goes in as text, never as HTML.

import { wayOut } from "./conversation.js";
import { errorText, number } from "./texts.js";

export class TurnView {
  /** After an error, `onAgain` is called when the person wants the answer once more, and `onEdit`
   * when they want to change the question. */
  constructor(turn, onAgain, onEdit) {
    this.turn = turn;
    this._answerText = document.createTextNode("");
    this._question = element("p", "text", turn.question);
    this._youLabel = element("h3", "unseen");
    this._answerLabel = element("h3", "unseen");
    this._dropped = element("p", "note");
    this._waiting = element("p", "waiting");
    this._text = element("p", "text");
    this._text.append(this._answerText);
    this._figures = element("p", "figures");
    this._answer = element("article", "answer");
    this._answer.append(this._answerLabel, this._waiting, this._text, this._figures);
    const asked = element("article", "asked");
    asked.append(this._youLabel, this._question);
    this._error = element("div", "error");
    this._error.setAttribute("role", "alert");
    this.again = element("button", "again");
    this.again.type = "button";
    this.again.addEventListener("click", () => {
      if (wayOut(turn.error) === "edit") onEdit();
      else onAgain();
    });
    this.root = element("section", "turn");
    this.root.append(asked, this._dropped, this._answer, this._error);
  }

  /** Adds what came since the last time. */
  grow(language, texts) {
    if (this.root.dataset.outcome !== this.turn.outcome) this.refresh(language, texts);
    else this._answerText.appendData(this.turn.text.slice(this._answerText.length));
  }

  /** Shows everything anew. */
  refresh(language, texts) {
    const { turn } = this;
    this.root.dataset.outcome = turn.outcome;
    this._youLabel.textContent = texts.you;
    this._answerLabel.textContent = texts.answer;
    show(this._dropped, turn.dropped > 0 ? texts.dropped(turn.dropped) : "");
    show(this._waiting, turn.outcome === "waiting" ? texts.waiting : "");
    this._answerText.data = turn.text;
    this._text.hidden = turn.text === "";
    // A screen reader reads the answer when it is whole, not token by token.
    this._answer.setAttribute("aria-busy", String(turn.running));
    this._answer.hidden = turn.outcome === "error" && turn.text === "";
    show(this._figures, turn.running ? "" : figuresOf(turn, language, texts));
    this._showError(language, texts);
  }

  _showError(language, texts) {
    const { error } = this.turn;
    this._error.hidden = error === null;
    if (error === null) {
      this._error.replaceChildren();
      return;
    }
    const title = element("strong", "", this.turn.text ? texts.brokenOff : texts.failed);
    const translated = errorText(language, error.code);
    const message = element("p", "message", translated ?? error.message);
    message.lang = translated ? language : "en"; // as the server words it
    const details = [error.code, error.status && `HTTP ${error.status}`].filter(Boolean);
    const code = element("code", "", details.join(" · "));
    const hint = error.retryAfter ? texts.retryAfter(error.retryAfter) : "";
    const advice = element("p", "advice", texts.advice[error.code] ?? "");
    advice.hidden = advice.textContent === "";
    this.again.textContent = wayOut(error) === "edit" ? texts.edit : texts.again;
    const foot = element("p", "foot");
    foot.append(this.again, code, element("span", "", hint));
    this._error.replaceChildren(title, message, advice, foot);
    if (translated) this._error.append(original(error.message, texts));
  }
}

/** The server's words, for whoever looks for them in its log or its documentation. */
function original(message, texts) {
  const words = element("p", "", message);
  words.lang = "en";
  const node = element("details", "original");
  node.append(element("summary", "", texts.original), words);
  return node;
}

function figuresOf(turn, language, texts) {
  const parts = [];
  if (turn.outcome === "stopped") parts.push(texts.stopped);
  if (turn.timedOut) parts.push(texts.timedOut);
  else if (turn.finishReason === "length") parts.push(texts.tooLong);
  if (turn.tokens > 0) parts.push(texts.tokens(number(language, turn.tokens)));
  if (turn.speed) parts.push(texts.perSecond(number(language, turn.speed, 1)));
  return parts.join(" · ");
}

function show(node, text) {
  node.textContent = text;
  node.hidden = text === "";
}

function element(name, className = "", text = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}
