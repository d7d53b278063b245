"""litellm's chat and text completions, a burst of forty, and its classes of errors."""

import os

import litellm
from litellm.exceptions import AuthenticationError, BadRequestError, ContextWindowExceededError

NAME = os.environ["MODEL"]
MODEL = f"openai/{NAME}"
QUESTION = [{"role": "user", "content": "Name a river."}]
BURST = 40


def fails_with(error: type[Exception], **fields: object) -> Exception:
    try:
        litellm.completion(**{"model": MODEL, "messages": QUESTION, "max_tokens": 4, **fields})
    except error as caught:
        return caught
    raise AssertionError(f"no {error.__name__} for {fields}")


def chat() -> None:
    answer = litellm.completion(model=MODEL, messages=QUESTION, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    stream = litellm.completion(
        model=MODEL,
        messages=QUESTION,
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    built = litellm.stream_chunk_builder(chunks, messages=QUESTION)
    assert built.choices[0].message.content
    assert built.usage.completion_tokens == 8, built.usage


def cached_parts() -> None:
    part = {"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [part]}, *QUESTION]
    assert litellm.completion(model=MODEL, messages=messages, max_tokens=4).choices


def parameters_of_other_servers() -> None:
    extra = {"repetition_penalty": 1.1, "top_k": -1, "min_p": 0.1, "chat_template_kwargs": {}}
    answer = litellm.completion(
        model=f"hosted_vllm/{NAME}",
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        messages=QUESTION,
        max_tokens=4,
        **extra,
    )
    assert answer.choices


def forced_call() -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Madrid", "Paris"]}},
        "required": ["city"],
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    answer = litellm.completion(
        model=MODEL, messages=QUESTION, tools=[tool], tool_choice="required", max_tokens=60
    )
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"


def text() -> None:
    for model in (f"text-completion-openai/{NAME}", MODEL):
        answer = litellm.text_completion(
            model=model, prompt="The capital of France is", max_tokens=5
        )
        assert answer.choices[0].text, answer


def burst() -> None:
    answers = litellm.batch_completion(model=MODEL, messages=[QUESTION] * BURST, max_tokens=8)
    lost = [answer for answer in answers if not isinstance(answer, litellm.ModelResponse)]
    assert len(answers) == BURST
    assert not lost, lost


def errors() -> None:
    error = fails_with(
        ContextWindowExceededError, messages=[{"role": "user", "content": "river " * 9000}]
    )
    assert "This model's maximum context length is" in str(error), error
    fails_with(BadRequestError, temperature=3)
    fails_with(AuthenticationError, api_key="another")


for check in (
    chat,
    cached_parts,
    parameters_of_other_servers,
    forced_call,
    text,
    burst,
    errors,
):
    check()
print(f"ok litellm: chat, text, {BURST} at once, errors of its classes")
