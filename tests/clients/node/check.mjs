// The npm package `openai` against a running server: node check.mjs WORDS_URL TOOLS_URL
// Prints one line for each check and leaves with 1 if any failed.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { run } from "./run.mjs";

const [wordsUrl, toolsUrl] = process.argv.slice(2);
const client = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const words = client(wordsUrl);
const tools = client(toolsUrl);
const question = [{ role: "user", content: "How is the weather in Paris?" }];

const Weather = z.object({
  city: z.enum(["Madrid", "Paris"]),
  days: z.number().int().min(1).max(7),
});
const weather = zodFunction({ name: "weather", parameters: Weather });

/** The one model's id, as a client finds it. */
const only = async (server) => (await server.models.list()).data[0].id;
const wordsModel = await only(words);
const toolsModel = await only(tools);

const callWeather = (options = {}) => ({
  model: toolsModel,
  messages: question,
  tools: [weather],
  tool_choice: "required",
  parallel_tool_calls: false,
  max_tokens: 60,
  ...options,
});

/** The turn after a call: the message as it came, and the result of the call. */
const afterCall = (message) =>
  tools.chat.completions.create({
    model: toolsModel,
    messages: [
      ...question,
      message,
      { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" },
    ],
    tools: [weather],
    max_tokens: 3,
  });

/** The text of a stream of a response's events. */
const textOf = (events) =>
  events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta).join("");

const checks = {
  "the model is found by its id": async () => {
    assert.equal((await words.models.retrieve(wordsModel)).object, "model");
  },

  "a whole answer": async () => {
    const { data, request_id } = await words.chat.completions
      .create({ model: wordsModel, messages: question, max_tokens: 6, n: 2, logprobs: true })
      .withResponse();
    assert.match(request_id, /^req_/);
    assert.deepEqual(data.choices.map((choice) => choice.index), [0, 1]);
    assert.equal(data.choices[0].logprobs.content.length, 6);
    assert.equal(data.usage.completion_tokens, 12);
  },

  "a stream by hand": async () => {
    const chunks = [];
    const stream = await words.chat.completions.create({
      model: wordsModel,
      messages: question,
      max_tokens: 6,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) chunks.push(chunk);
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, 6);
    assert.equal(chunks.at(-2).choices[0].finish_reason, "length");
  },

  "a stream that is aborted": async () => {
    const stream = await tools.chat.completions.create({
      model: toolsModel,
      messages: question,
      max_tokens: 500,
      ignore_eos: true,
      stream: true,
    });
    let count = 0;
    for await (const _ of stream) if (++count === 3) stream.controller.abort();
    assert.ok(count < 100);
    assert.equal((await tools.chat.completions.create({
      model: toolsModel, messages: question, max_tokens: 1,
    })).choices.length, 1);
  },

  "the stream helper, and its answer as history": async () => {
    const stream = words.chat.completions.stream({
      model: wordsModel, messages: question, max_tokens: 6,
    });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const { message } = (await stream.finalChatCompletion()).choices[0];
    assert.equal(text, message.content);
    await words.chat.completions.create({
      model: wordsModel, messages: [...question, message, ...question], max_tokens: 2,
    });
  },

  "a structured answer, and the turn after it": async () => {
    const answer = await words.chat.completions.parse({
      model: wordsModel,
      messages: question,
      response_format: zodResponseFormat(Weather, "weather"),
      max_tokens: 60,
    });
    const { message } = answer.choices[0];
    assert.deepEqual(Weather.parse(message.parsed), message.parsed);
    await words.chat.completions.create({
      model: wordsModel, messages: [...question, message, ...question], max_tokens: 2,
    });
  },

  "a call with parsed arguments, and the turn after it": async () => {
    const answer = await tools.chat.completions.parse(callWeather());
    const { message, finish_reason } = answer.choices[0];
    assert.equal(finish_reason, "tool_calls");
    assert.ok(Weather.parse(message.tool_calls[0].function.parsed_arguments));
    await afterCall(message);
  },

  "a call in a stream, and the turn after it": async () => {
    const stream = tools.chat.completions.stream(callWeather());
    await afterCall((await stream.finalChatCompletion()).choices[0].message);
  },

  "runTools, whole and streamed": async () => {
    for (const stream of [false, true]) {
      const asked = [];
      const parameters = {
        type: "object",
        properties: { city: { type: "string", enum: ["Madrid", "Paris"] } },
        required: ["city"],
        additionalProperties: false,
      };
      const run = (argument) => (asked.push(argument.city), `sunny in ${argument.city}`);
      const runner = tools.chat.completions.runTools(
        callWeather({
          stream,
          tools: [{
            type: "function",
            function: {
              name: "weather", description: "Weather.", parameters, parse: JSON.parse, function: run,
            },
          }],
        }),
        { maxChatCompletions: 2 },
      );
      await runner.done();
      assert.equal(asked.length, 2);
      assert.ok(asked.every((city) => ["Madrid", "Paris"].includes(city)));
    }
  },

  "a response, whole and streamed": async () => {
    const asked = { model: wordsModel, input: "Say hi.", max_output_tokens: 8, temperature: 0 };
    const whole = await words.responses.create(asked);
    assert.equal(whole.status, "incomplete");
    assert.equal(whole.usage.output_tokens, 8);
    const events = [];
    for await (const event of await words.responses.create({ ...asked, stream: true })) {
      events.push(event);
    }
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(textOf(events), whole.output_text);
    assert.equal(events.at(-1).type, "response.incomplete");
  },

  "the helper for streams of responses, and a structured one": async () => {
    const stream = words.responses.stream({
      model: wordsModel,
      input: "How is the weather in Paris?",
      text: { format: zodTextFormat(Weather, "weather") },
      max_output_tokens: 60,
    });
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const made = await stream.finalResponse();
    assert.equal(made.output_text, text);
    assert.ok(Weather.parse(made.output_parsed));
  },

  "a call of a response, and the turn after it": async () => {
    const made = await tools.responses.parse({
      model: toolsModel,
      input: "How is the weather in Paris?",
      tools: [zodResponsesFunction({ name: "weather", parameters: Weather })],
      tool_choice: "required",
      parallel_tool_calls: false,
      max_output_tokens: 60,
    });
    const [call] = made.output;
    assert.ok(Weather.parse(call.parsed_arguments));
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const next = await tools.responses.create({
      model: toolsModel, input: [result], previous_response_id: made.id, max_output_tokens: 3,
    });
    assert.equal(next.previous_response_id, made.id);
    await tools.responses.create({
      model: toolsModel,
      input: [{ role: "user", content: "How is the weather?" }, ...made.output, result],
      max_output_tokens: 3,
    });
  },

  "a response in the background, its stream resumed": async () => {
    const events = [];
    const stream = await words.responses.create({
      model: wordsModel, input: "Say hi.", max_output_tokens: 30, background: true, stream: true,
    });
    for await (const event of stream) {
      events.push(event);
      if (event.sequence_number === 4) break;
    }
    const { id } = events[0].response;
    const rest = await words.responses.retrieve(id, { stream: true, starting_after: 4 });
    for await (const event of rest) events.push(event);
    assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
    assert.equal(textOf(events), events.at(-1).response.output.at(0).content.at(0).text);
    assert.equal((await words.responses.retrieve(id)).output_text, textOf(events));
    assert.equal((await words.responses.inputItems.list(id)).data.length, 1);
    await words.responses.delete(id);
    await assert.rejects(words.responses.retrieve(id), OpenAI.NotFoundError);
  },

  "a response that is cancelled": async () => {
    const made = await tools.responses.create({
      model: toolsModel, input: "Say hi.", max_output_tokens: 900, background: true,
      ignore_eos: true,
    });
    assert.equal(made.status, "queued");
    assert.equal((await tools.responses.cancel(made.id)).status, "cancelled");
  },

  "errors are the package's own": async () => {
    const create = (options) =>
      words.chat.completions.create({ model: wordsModel, messages: question, ...options });
    await assert.rejects(create({ model: "gpt-4o" }), (error) =>
      error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
    await assert.rejects(create({ temperature: 3 }), (error) =>
      error instanceof OpenAI.BadRequestError && error.param === "temperature");
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    await assert.rejects(create({ messages: [{ role: "user", content: [image] }] }), (error) =>
      error instanceof OpenAI.BadRequestError && error.param.startsWith("messages[0].content[0]"));
  },
};

await run(checks);
