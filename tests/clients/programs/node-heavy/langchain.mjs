// LangChain.js: node langchain.mjs loop|real chat|responses. A loop of twelve calls with a model that
// does as it is told; or text, streams, typed answers and completions with a real one.
import assert from "node:assert/strict";
import { HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAI } from "@langchain/openai";
import { z } from "zod";

const [part, api] = process.argv.slice(2);
const useResponsesApi = api === "responses";
const model = process.env.MODEL;
const STEPS = 12;

const loop = async () => {
  const taken = [];
  const nextStep = tool(({ step }) => (taken.push(step), `step ${step} is taken`), {
    name: "next_step",
    description: "Takes the step with this number.",
    schema: z.object({ step: z.number() }),
  });
  for (const isStream of [false, true]) {
    taken.length = 0;
    const bound = new ChatOpenAI({ model, useResponsesApi }).bindTools([nextStep]);
    const ask = async (messages) => {
      if (!isStream) return bound.invoke(messages);
      let whole;
      for await (const chunk of await bound.stream(messages)) whole = whole?.concat(chunk) ?? chunk;
      return whole;
    };
    const messages = [
      new SystemMessage("Walk."),
      new HumanMessage(`steps ${STEPS} next_step You are there.`),
    ];
    let answer = await ask(messages);
    while (answer.tool_calls.length) {
      messages.push(answer);
      for (const call of answer.tool_calls) {
        const content = await nextStep.invoke(call.args);
        messages.push(new ToolMessage({ content, tool_call_id: call.id }));
      }
      answer = await ask(messages);
    }
    assert.equal(answer.text, "You are there.");
    assert.deepEqual(taken, Array.from({ length: STEPS }, (_, i) => i + 1));
    const again = await ask([...messages, answer, new HumanMessage("say Once more.")]);
    assert.equal(again.text, "Once more.");
  }
};

const real = async () => {
  const chat = new ChatOpenAI({ model, useResponsesApi, maxTokens: 60 });
  assert.ok((await chat.invoke("Name a river.")).text);
  const pieces = [];
  for await (const chunk of await chat.stream("Name a river.")) pieces.push(chunk.text);
  assert.ok(pieces.length > 2);
  const City = z.object({ name: z.enum(["Madrid", "Paris"]) });
  for (const method of ["functionCalling", "jsonSchema"]) {
    const city = await chat.withStructuredOutput(City, { method }).invoke("Describe a city.");
    assert.deepEqual(City.parse(city), city);
  }
  assert.ok(await new OpenAI({ model, maxTokens: 5 }).invoke("The capital of France is"));
};

await { loop, real }[part]();
console.log(`ok LangChain.js, ${part}, over ${api}`);
