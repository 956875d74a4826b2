"""Every case with the official OpenAI SDK, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

import openai
from pydantic import BaseModel

job = json.load(sys.stdin)
client = openai.OpenAI(base_url=job["url"] + "/v1", api_key=job["token"], max_retries=0)
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
    answer = client.chat.completions.create(model=model, messages=user("Hello"))
    return {"text": answer.choices[0].message.content, **used(answer.usage)}


def stream(model):
    options = {"include_usage": True}
    said, pieces, usage = "", 0, None
    for chunk in client.chat.completions.create(model=model, messages=user("Hello"), stream=True, stream_options=options):
        for choice in chunk.choices:
            pieces += bool(choice.delta.content)
            said += choice.delta.content or ""
        usage = chunk.usage or usage
    return {"text": said, "pieces": pieces, **used(usage)}


def tools(model, streamed=False):
    messages, seen = user("How is the weather?"), []
    while True:
        if streamed:
            with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER]) as answer:
                for _ in answer:
                    pass
                message = answer.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER]).choices[0].message
        if not message.tool_calls:
            return {"calls": seen, "text": message.content}
        messages.append(message.model_dump(exclude_none=True) if streamed else message)
        for call in message.tool_calls:
            arguments = json.loads(call.function.arguments)
            seen.append([call.function.name, arguments])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": job["weather"][arguments["city"]]})


def image(model):
    url = {"url": "data:image/png;base64," + job["image"]}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    return {"text": answer.choices[0].message.content}


def report(model):
    answer = client.chat.completions.parse(model=model, messages=user("Please report."), response_format=Report)
    return {"value": answer.choices[0].message.parsed.model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.chat.completions.create(model=model, messages=user(f"Fail with {status} please"))
        except openai.APIStatusError as error:
            seen.append({"class": type(error).__name__, "status": error.status_code, "message": error.message})
    return seen


def retry(model):
    patient = client.with_options(max_retries=2)
    answer = patient.chat.completions.create(model=model, messages=user(f"Fail once for {__file__} {model}"))
    return {"text": answer.choices[0].message.content}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "errors": errors(model), "retry": retry(model),
    }


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
