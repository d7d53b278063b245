// The AI SDK with a model that does as it is told: a loop of twelve calls, whole and streamed, the
// next turn with their history, and an object from the words of the model.
import assert from "node:assert/strict";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { model } from "./providers.mjs";

const [provider] = process.argv.slice(2);
const STEPS = 12;
const all = Array.from({ length: STEPS }, (_, i) => i + 1);
let taken = [];

const asked = {
  model: model(provider),
  system: "Walk.",
  stopWhen: stepCountIs(STEPS + 1),
  tools: {
    next_step: tool({
      description: "Takes the step with this number.",
      inputSchema: z.object({ step: z.number() }),
      execute: ({ step }) => (taken.push(step), `step ${step} is taken`),
    }),
  },
};
const question = { role: "user", content: `steps ${STEPS} next_step You are there.` };

const whole = await generateText({ ...asked, messages: [question] });
assert.equal(whole.text, "You are there.");
assert.equal(whole.steps.length, STEPS + 1);
assert.deepEqual(taken, all);

taken = [];
const stream = streamText({ ...asked, messages: [question] });
let text = "";
for await (const part of stream.textStream) text += part;
assert.equal(text, "You are there.");
assert.deepEqual(taken, all);

// A history in which the assistant has thought, as the models of others do.
const thought = {
  role: "assistant",
  content: [{ type: "reasoning", text: "Where am I?" }, { type: "text", text: "Here." }],
};
const again = await generateText({
  ...asked,
  messages: [question, ...whole.response.messages, question, thought, { role: "user", content: "say Once more." }],
});
assert.equal(again.text, "Once more.");

const object = await generateText({
  ...asked,
  tools: undefined,
  output: Output.object({ schema: z.object({ place: z.string() }) }),
  messages: [{ role: "user", content: 'say {"place": "Rome"}' }],
});
assert.deepEqual(object.output, { place: "Rome" });

console.log(`ok AI SDK, ${provider}: loops of ${STEPS} calls, a next turn, an object`);
