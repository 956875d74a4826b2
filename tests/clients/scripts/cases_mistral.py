"""Every case with Mistral's official SDK, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

from mistralai.client import Mistral, errors as failures
from mistralai.client.utils import BackoffStrategy, RetryConfig
from pydantic import BaseModel

job = json.load(sys.stdin)
client = Mistral(server_url=job["url"], api_key=job["token"])
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": job["parameters"]},
}


class Report(BaseModel):
    city: str
    degrees: int


def user(text):
    return [{"role": "user", "content": text}]


def used(usage):
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens}


def text(model):
    answer = client.chat.complete(model=model, messages=user("Hello"))
    return {"text": answer.choices[0].message.content, **used(answer.usage)}


def stream(model):
    said, pieces, usage = "", 0, None
    for event in client.chat.stream(model=model, messages=user("Hello")):
        for choice in event.data.choices:
            pieces += bool(choice.delta.content)
            said += choice.delta.content or ""
        usage = event.data.usage or usage
    # Mistral tells it unasked; this SDK does not ask.
    return {"text": said, "pieces": pieces, **(used(usage) if usage else {})}


def tools(model, streamed=False):
    messages, seen = user("How is the weather?"), []
    while True:
        if streamed:
            said, calls = "", {}
            for event in client.chat.stream(model=model, messages=messages, tools=[WEATHER]):
                for choice in event.data.choices:
                    said += choice.delta.content or ""
                    for call in choice.delta.tool_calls or []:
                        known = calls.setdefault(call.index, {"id": call.id, "function": {"name": "", "arguments": ""}})
                        known["function"]["name"] += call.function.name or ""
                        known["function"]["arguments"] += call.function.arguments or ""
            message = {"role": "assistant", "content": said, "tool_calls": list(calls.values())}
        else:
            answer = client.chat.complete(model=model, messages=messages, tools=[WEATHER])
            message = answer.choices[0].message.model_dump()
        if not message.get("tool_calls"):
            return {"calls": seen, "text": message["content"]}
        messages.append(message)
        for call in message["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            seen.append([call["function"]["name"], arguments])
            weather = job["weather"][arguments["city"]]
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": "get_weather", "content": weather})


def image(model):
    url = "data:image/png;base64," + job["image"]
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    answer = client.chat.complete(model=model, messages=[{"role": "user", "content": content}])
    return {"text": answer.choices[0].message.content}


def report(model):
    answer = client.chat.parse(model=model, messages=user("Please report."), response_format=Report)
    return {"value": answer.choices[0].message.parsed.model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.chat.complete(model=model, messages=user(f"Fail with {status} please"))
        except failures.MistralError as error:
            seen.append({"class": type(error).__name__, "status": error.status_code, "message": error.body})
    return seen


def retry(model):
    backoff = BackoffStrategy(initial_interval=1, max_interval=10, exponent=1.5, max_elapsed_time=10_000)
    retries = RetryConfig(strategy="backoff", backoff=backoff, retry_connection_errors=False)
    answer = client.chat.complete(model=model, messages=user(f"Fail once for {__file__} {model}"), retries=retries)
    return {"text": answer.choices[0].message.content}


def every(model):
    seen = {
        "text": text(model), "stream": stream(model), "tools": tools(model),
        "image": image(model), "report": report(model), "errors": errors(model), "retry": retry(model),
    }
    # Of a streamed call this SDK reads each piece as a call of its own: it takes those that come whole, as Mistral's do.
    if model in job["whole_calls"]:
        seen["stream_tools"] = tools(model, True)
    return seen


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
