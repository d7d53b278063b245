// The AI SDK over a real model: text, objects whose schemas zod 4 writes with propertyNames and
// formats, a forced call, and the error of a prompt that is too long.
import assert from "node:assert/strict";
import { APICallError, generateObject, generateText, Output, streamObject, streamText, tool } from "ai";
import { z } from "zod";
import { model } from "./providers.mjs";

const [provider] = process.argv.slice(2);
const plain = { model: model(provider), prompt: "Name a river.", maxOutputTokens: 12 };

assert.ok((await generateText(plain)).text);
const pieces = [];
for await (const piece of streamText(plain).textStream) pieces.push(piece);
assert.ok(pieces.length > 1);

const City = z.object({
  name: z.enum(["Madrid", "Paris"]),
  scores: z.record(z.enum(["old", "large"]), z.int().min(0).max(9)),
});
// openai-compatible passes schemas on where its option says so. Both say `strict` by default.
const bound = {
  model: model(provider, { supportsStructuredOutputs: true }),
  prompt: "Describe a city.",
  maxOutputTokens: 300,
};
const { object } = await generateObject({ ...bound, schema: City });
assert.deepEqual(City.parse(object), object);
const { output } = await generateText({ ...bound, output: Output.object({ schema: City }) });
assert.deepEqual(City.parse(output), output);
const partial = streamObject({ ...bound, schema: z.object({ story: z.string().min(60).max(120) }) });
const seen = [];
for await (const part of partial.partialObjectStream) seen.push(part);
assert.ok(seen.length > 5, `${seen.length} partial objects`);

const called = await generateText({
  ...bound,
  toolChoice: "required",
  tools: {
    visit: tool({ description: "Visits a city.", inputSchema: City, execute: ({ name }) => name }),
  },
});
assert.equal(called.toolCalls[0].toolName, "visit");
assert.deepEqual(City.parse(called.toolCalls[0].input), called.toolCalls[0].input);

await assert.rejects(
  generateText({ ...plain, prompt: "river ".repeat(9000) }),
  (error) =>
    APICallError.isInstance(error) &&
    error.statusCode === 400 &&
    error.message.startsWith("This model's maximum context length is"),
);

console.log(`ok AI SDK, ${provider}: text, objects, a call and an error over a real model`);
