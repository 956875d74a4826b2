"""Every case with Ollama's official SDK on its own API, unmodified except for host and key. A job in, JSON out."""
import json
import sys

import ollama
from pydantic import BaseModel

job = json.load(sys.stdin)
client = ollama.Client(host=job["url"] + "/providers/ollama", headers={"Authorization": "Bearer " + job["token"]})
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": job["parameters"]},
}


class Report(BaseModel):
    city: str
    degrees: int


def user(text, **more):
    return [{"role": "user", "content": text, **more}]


def used(answer):
    return {"input": answer.prompt_eval_count, "output": answer.eval_count}


def text(model):
    answer = client.chat(model=model, messages=user("Hello"))
    return {"text": answer.message.content, **used(answer)}


def stream(model):
    said, pieces, last = "", 0, None
    for piece in client.chat(model=model, messages=user("Hello"), stream=True):
        pieces += bool(piece.message.content)
        said += piece.message.content or ""
        last = piece
    return {"text": said, "pieces": pieces, **used(last)}


def tools(model, streamed=False):
    messages, seen = user("How is the weather?"), []
    while True:
        said, calls = "", []
        answer = client.chat(model=model, messages=messages, tools=[WEATHER], stream=streamed)
        for piece in answer if streamed else [answer]:
            said += piece.message.content or ""
            calls += piece.message.tool_calls or []
        if not calls:
            return {"calls": seen, "text": said}
        messages.append({"role": "assistant", "content": said, "tool_calls": calls})
        for call in calls:
            arguments = dict(call.function.arguments)
            seen.append([call.function.name, arguments])
            messages.append({"role": "tool", "tool_name": call.function.name, "content": job["weather"][arguments["city"]]})


def image(model):
    return {"text": client.chat(model=model, messages=user("What is this?", images=[job["image"]])).message.content}


def report(model):
    answer = client.chat(model=model, messages=user("Please report."), format=Report.model_json_schema())
    return {"value": Report.model_validate_json(answer.message.content).model_dump()}


def embed(model):
    vectors = client.embed(model=model, input=["one", "two"]).embeddings
    return {"count": len(vectors), "dimensions": len(vectors[0])}


def generate(model):
    pieces = [piece.response for piece in client.generate(model=model, prompt="Hello", stream=True)]
    return {"text": client.generate(model=model, prompt="Hello").response, "streamed": "".join(pieces)}


def failure(error):
    return {"class": type(error).__name__, "status": error.status_code, "message": error.error}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.chat(model=model, messages=user(f"Fail with {status} please"))
        except ollama.ResponseError as error:
            seen.append(failure(error))
    return seen


def refused():
    try:
        client.chat(model="other", messages=user("Hello"))
    except ollama.ResponseError as error:
        return {"class": type(error).__name__, "status": error.status_code}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "embed": embed(model), "generate": generate(model),
        "errors": errors(model), "refused": refused(),
    }


json.dump({"m": every("m")}, sys.stdout)
