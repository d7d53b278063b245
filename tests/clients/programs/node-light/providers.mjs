// The two providers of the AI SDK that people use for a server with OpenAI's API, each as its
// documentation has it: `openai` asks /v1/responses, `compatible` /v1/chat/completions.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { openai } from "@ai-sdk/openai";

const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey, MODEL } = process.env;

/** The model by the name of its provider; `options` are those of openai-compatible. */
export const model = (provider, options = {}) =>
  provider === "openai"
    ? openai(MODEL)
    : createOpenAICompatible({ name: "sheily", baseURL, apiKey, ...options })(MODEL);
