// A conversation: what was asked and answered, and the figures of an answer. No page, no network.

/** One question with its answer. `outcome` is waiting, streaming, done, stopped or error. */
export class Turn {
  constructor(question, now = () => performance.now()) {
    this.question = question;
    this._now = now;
    this.begin();
  }

  /** Forgets the answer so far: it is asked for from the start. */
  begin() {
    this.text = "";
    this.outcome = "waiting";
    this.error = null;
    this.finishReason = null;
    this.dropped = 0;
    this.timedOut = false;
    this._usage = null;
    this._progress = null;
    this._timings = null;
    this._pieces = 0;
    this._began = this._now();
    this._firstAt = null;
    this._lastAt = null;
  }

  /** Takes a chunk of the stream; the text that it adds. */
  take(chunk) {
    if (chunk.usage) this._usage = chunk.usage;
    if (chunk.prompt_progress) this._progress = chunk.prompt_progress;
    if (chunk.timings) this._timings = chunk.timings;
    this.dropped = chunk.sheily?.dropped_messages ?? this.dropped;
    this.timedOut = chunk.sheily?.timed_out ?? this.timedOut;
    const choice = chunk.choices?.[0];
    this.finishReason = choice?.finish_reason ?? this.finishReason;
    const text = choice?.delta?.content ?? "";
    if (text) {
      this._lastAt = this._now();
      this._firstAt ??= this._lastAt;
      this._pieces += 1;
      this.text += text;
      this.outcome = "streaming";
    }
    return text;
  }

  end(outcome, error = null) {
    this.outcome = outcome;
    this.error = error;
  }

  get running() {
    return this.outcome === "waiting" || this.outcome === "streaming";
  }

  /** Tokens of the answer; a piece of the stream is about a token. */
  get tokens() {
    return this._usage?.completion_tokens ?? this._pieces;
  }

  /** The server's count of tokens; before the end, and where the answer was stopped, what is known
   * of it; null before the prompt has been counted. */
  get usage() {
    if (this._usage || !this._progress) return this._usage;
    const { total, cache } = this._progress;
    return {
      prompt_tokens: total,
      prompt_tokens_details: { cached_tokens: cache },
      total_tokens: total + this._pieces,
    };
  }

  /** Tokens a second behind the first one: the server's figure, or else a measured one. */
  get speed() {
    const said = this._timings?.predicted_per_second;
    if (said) return said;
    const seconds = (this._lastAt - this._firstAt) / 1000;
    return seconds > 0 ? (this._pieces - 1) / seconds : null;
  }

  /** Seconds from the question to the first text. */
  get firstAfter() {
    return this._firstAt === null ? null : (this._firstAt - this._began) / 1000;
  }
}

/**
 * The messages to send for the last of these turns, as OpenAI shapes them. An earlier question that
 * got an error and no text is left out: whatever was wrong with it would be wrong again.
 */
export function messagesOf(turns) {
  return turns.flatMap((turn, i) => {
    const last = i === turns.length - 1;
    const question = { role: "user", content: turn.question };
    if (last || (turn.text === "" && turn.error === null)) return [question];
    if (turn.text === "") return [];
    return [question, { role: "assistant", content: turn.text }];
  });
}

/** What to do about an error: `again`, or `edit` where the same question would get the same. */
export function wayOut(error) {
  const same = error.status === 400 || error.status === 413;
  return same ? "edit" : "again";
}
