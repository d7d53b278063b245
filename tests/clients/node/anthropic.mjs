// The npm package `@anthropic-ai/sdk` against a running server: node anthropic.mjs WORDS_URL TOOLS_URL
// Prints one line for each check and leaves with 1 if any failed.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import { run } from "./run.mjs";

const [wordsUrl, toolsUrl] = process.argv.slice(2);
const client = (baseURL) => new Anthropic({ baseURL, apiKey: "none", maxRetries: 0 });
const words = client(wordsUrl);
const tools = client(toolsUrl);
const only = async (url) => (await (await fetch(`${url}/v1/models`)).json()).data[0].id;
const wordsModel = await only(wordsUrl);
const toolsModel = await only(toolsUrl);

const messages = [{ role: "user", content: "What is the capital of France?" }];
const asked = { model: wordsModel, max_tokens: 8, temperature: 0, messages };
const weather = {
  name: "weather",
  description: "The weather in a city.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", enum: ["Madrid", "Paris"] } },
    required: ["city"],
    additionalProperties: false,
  },
};
const forced = {
  model: toolsModel,
  max_tokens: 60,
  tools: [weather],
  tool_choice: { type: "any", disable_parallel_tool_use: true },
};

const checks = {
  "a whole answer": async () => {
    const { data, request_id } = await words.messages.create(asked).withResponse();
    assert.match(request_id, /^req_/);
    assert.deepEqual(data.content.map((block) => block.type), ["text"]);
    assert.equal(data.stop_reason, "max_tokens");
    assert.equal(data.usage.output_tokens, 8);
  },

  "a stream and its final message": async () => {
    let text = "";
    const stream = words.messages.stream(asked).on("text", (piece) => (text += piece));
    const made = await stream.finalMessage();
    assert.equal(made.content[0].text, text);
    assert.equal(made.usage.output_tokens, 8);
  },

  "a stream that is aborted": async () => {
    const stream = await tools.messages.create({
      model: toolsModel,
      max_tokens: 500,
      messages,
      stream: true,
    });
    let count = 0;
    for await (const _ of stream) if (++count === 3) stream.controller.abort();
    assert.ok(count < 100);
  },

  "the loop of a tool": async () => {
    const talk = [...messages];
    for (let i = 0; i < 3; i++) {
      const made = await tools.messages.stream({ ...forced, messages: talk }).finalMessage();
      assert.equal(made.stop_reason, "tool_use");
      const [call] = made.content;
      assert.equal(call.name, "weather");
      assert.ok(["Madrid", "Paris"].includes(call.input.city));
      const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
      talk.push({ role: "assistant", content: made.content });
      talk.push({ role: "user", content: [result] });
    }
    const last = await tools.messages.create({
      ...forced,
      max_tokens: 3,
      tool_choice: { type: "none" },
      messages: talk,
    });
    assert.equal(last.stop_reason, "max_tokens");
  },

  "tokens are counted": async () => {
    const few = await tools.messages.countTokens({ model: toolsModel, messages });
    const more = await tools.messages.countTokens({ model: toolsModel, messages, tools: [weather] });
    assert.ok(0 < few.input_tokens && few.input_tokens < more.input_tokens);
  },

  "an unknown model": async () => {
    await assert.rejects(words.messages.create({ ...asked, model: "claude-x" }), (error) => {
      assert.ok(error instanceof Anthropic.NotFoundError);
      assert.equal(error.error.error.type, "not_found_error");
      return true;
    });
  },

  "a body that cannot be": async () => {
    await assert.rejects(words.messages.create({ ...asked, max_tokens: 0 }), (error) => {
      assert.ok(error instanceof Anthropic.BadRequestError);
      assert.equal(error.error.error.param, "max_tokens");
      assert.match(error.requestID, /^req_/);
      return true;
    });
  },
};

await run(checks);
