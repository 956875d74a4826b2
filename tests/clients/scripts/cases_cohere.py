"""Every case with Cohere's official SDK on its own API, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

import cohere
from cohere.core.api_error import ApiError
from pydantic import BaseModel

job = json.load(sys.stdin)
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": job["parameters"]},
}


def connect(retries):
    return cohere.ClientV2(api_key=job["token"], base_url=job["url"] + "/providers/cohere", max_retries=retries)


client = connect(0)


class Report(BaseModel):
    city: str
    degrees: int


def user(text):
    return [{"role": "user", "content": text}]


def used(usage):
    return {"input": int(usage.tokens.input_tokens), "output": int(usage.tokens.output_tokens)}


def text(model):
    answer = client.chat(model=model, messages=user("Hello"))
    return {"text": answer.message.content[0].text, **used(answer.usage)}


def stream(model):
    said, pieces, usage = "", 0, None
    for event in client.chat_stream(model=model, messages=user("Hello")):
        if event.type == "content-delta":
            pieces += 1
            said += event.delta.message.content.text
        elif event.type == "message-end":
            usage = event.delta.usage
    return {"text": said, "pieces": pieces, **used(usage)}


def streamed_message(messages):
    said, calls = "", {}
    for event in client.chat_stream(model="m", messages=messages, tools=[WEATHER]):
        if event.type == "content-delta":
            said += event.delta.message.content.text
        elif event.type == "tool-call-start":
            calls[event.index] = event.delta.message.tool_calls.model_dump()
        elif event.type == "tool-call-delta":
            calls[event.index]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
    return said, list(calls.values())


def tools(model, streamed=False):
    messages, seen = user("How is the weather?"), []
    while True:
        if streamed:
            said, calls = streamed_message(messages)
        else:
            message = client.chat(model=model, messages=messages, tools=[WEATHER]).message
            said = message.content[0].text if message.content else ""
            calls = [call.model_dump() for call in message.tool_calls or []]
        if not calls:
            return {"calls": seen, "text": said}
        messages.append({"role": "assistant", "tool_calls": calls})
        for call in calls:
            arguments = json.loads(call["function"]["arguments"])
            seen.append([call["function"]["name"], arguments])
            weather = job["weather"][arguments["city"]]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": weather})


def image(model):
    url = {"url": "data:image/png;base64," + job["image"]}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": url}]
    return {"text": client.chat(model=model, messages=user(content)).message.content[0].text}


def report(model):
    form = {"type": "json_object", "json_schema": Report.model_json_schema()}
    answer = client.chat(model=model, messages=user("Please report."), response_format=form)
    return {"value": Report.model_validate_json(answer.message.content[0].text).model_dump()}


def embed(model):
    texts = ["one", "two"]
    answer = client.embed(model=model, texts=texts, input_type="search_document", embedding_types=["float"])
    return {"count": len(answer.embeddings.float_), "dimensions": len(answer.embeddings.float_[0])}


def rerank(model):
    answer = client.rerank(model=model, query="ruby", documents=["Paris", "Ruby"])
    return {"order": [result.index for result in answer.results]}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.chat(model=model, messages=user(f"Fail with {status} please"))
        except ApiError as error:
            message = error.body["message"] if isinstance(error.body, dict) else error.body.message
            seen.append({"class": type(error).__name__, "status": error.status_code, "message": message})
    return seen


def refused():
    try:
        client.chat(model="other", messages=user("Hello"))
    except ApiError as error:
        return {"class": type(error).__name__, "status": error.status_code}


def retry(model):
    answer = connect(2).chat(model=model, messages=user(f"Fail once for {__file__} {model}"))
    return {"text": answer.message.content[0].text}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "embed": embed(model), "rerank": rerank(model),
        "errors": errors(model), "retry": retry(model), "refused": refused(),
    }


json.dump({"m": every("m")}, sys.stdout)
