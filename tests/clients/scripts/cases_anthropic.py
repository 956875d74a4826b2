"""Every case with the official Anthropic SDK, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

import anthropic
from pydantic import BaseModel

job = json.load(sys.stdin)
client = anthropic.Anthropic(base_url=job["url"], api_key=job["token"], max_retries=0)
WEATHER = {"name": "get_weather", "description": "The weather in a city", "input_schema": job["parameters"]}


class Report(BaseModel):
    city: str
    degrees: int


def user(text):
    return [{"role": "user", "content": text}]


def said(message):
    return "".join(block.text for block in message.content if block.type == "text")


def used(message):
    return {"input": message.usage.input_tokens, "output": message.usage.output_tokens}


def text(model):
    message = client.messages.create(model=model, max_tokens=100, messages=user("Hello"))
    return {"text": said(message), **used(message)}


def stream(model):
    with client.messages.stream(model=model, max_tokens=100, messages=user("Hello")) as answer:
        pieces = len(list(answer.text_stream))
        message = answer.get_final_message()
    return {"text": said(message), "pieces": pieces, **used(message)}


def tools(model, streamed=False):
    messages, seen = user("How is the weather?"), []
    while True:
        asked = {"model": model, "max_tokens": 100, "messages": messages, "tools": [WEATHER]}
        if streamed:
            with client.messages.stream(**asked) as answer:
                message = answer.get_final_message()
        else:
            message = client.messages.create(**asked)
        if message.stop_reason != "tool_use":
            return {"calls": seen, "text": said(message)}
        results = []
        for block in message.content:
            if block.type == "tool_use":
                seen.append([block.name, block.input])
                weather = job["weather"][block.input["city"]]
                results.append({"type": "tool_result", "tool_use_id": block.id, "content": weather})
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]


def image(model):
    source = {"type": "base64", "media_type": "image/png", "data": job["image"]}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    return {"text": said(client.messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": content}]))}


def report(model):
    answer = client.messages.parse(model=model, max_tokens=100, messages=user("Please report."), output_format=Report)
    return {"value": answer.parsed_output.model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.messages.create(model=model, max_tokens=100, messages=user(f"Fail with {status} please"))
        except anthropic.APIStatusError as error:
            seen.append({"class": type(error).__name__, "status": error.status_code, "message": error.message})
    return seen


def retry(model):
    patient = client.with_options(max_retries=2)
    messages = user(f"Fail once for {__file__} {model}")
    return {"text": said(patient.messages.create(model=model, max_tokens=100, messages=messages))}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "errors": errors(model), "retry": retry(model),
    }


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
