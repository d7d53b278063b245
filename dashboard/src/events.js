// Server-sent events as bytes; knows where an event ends, and nothing of what is in it.

const BOUNDARY = "\n\n";

/**
 * The same bytes in the same order, cut behind the end of an event: when the source fails, what was
 * given on ends with a whole event, and another one can follow it.
 */
export async function* wholeEvents(source) {
  let rest = Buffer.alloc(0);
  for await (const chunk of source) {
    const bytes = Buffer.concat([rest, chunk]);
    const end = bytes.lastIndexOf(BOUNDARY) + BOUNDARY.length;
    if (end < BOUNDARY.length) {
      rest = bytes;
      continue;
    }
    rest = bytes.subarray(end);
    yield bytes.subarray(0, end);
  }
  if (rest.length > 0) yield rest;
}

/**
 * The chunks of `source`; `onSilence` is called when one takes longer than `ms`. The time in which
 * the caller is busy with a chunk does not count.
 */
export async function* withoutSilence(source, ms, onSilence) {
  const iterator = source[Symbol.asyncIterator]();
  for (;;) {
    const timer = setTimeout(onSilence, ms);
    let step;
    try {
      step = await iterator.next();
    } finally {
      clearTimeout(timer);
    }
    if (step.done) return;
    yield step.value;
  }
}

/** One event with a JSON value. */
export function event(value) {
  return `data: ${JSON.stringify(value)}${BOUNDARY}`;
}
