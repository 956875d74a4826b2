"""The official Anthropic SDK, unmodified except for base URL and key. One scenario a run: JSON in, JSON out."""
import json
import sys

import anthropic

job = json.load(sys.stdin)
client = anthropic.Anthropic(base_url=job["url"], api_key=job["token"], max_retries=job.get("max_retries", 0))
arguments = job.get("arguments", {})


def summary(message):
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [{"name": block.name, "input": block.input} for block in message.content if block.type == "tool_use"]
    used = {"input": message.usage.input_tokens, "output": message.usage.output_tokens}
    return {"text": text, "stop": message.stop_reason, "calls": calls, "usage": used}


def message():
    return summary(client.messages.create(**arguments))


def stream():
    events = []
    with client.messages.stream(**arguments) as answer:
        for event in answer:
            events.append(event.type)
        return {**summary(answer.get_final_message()), "events": events}


def models():
    return {"ids": [model.id for model in client.models.list()]}


try:
    result = {"message": message, "stream": stream, "models": models}[job["scenario"]]()
except anthropic.APIStatusError as error:
    result = {"error": type(error).__name__, "status": error.status_code, "body": error.body, "request_id": error.request_id}
except anthropic.APIError as error:
    result = {"error": type(error).__name__, "message": str(error)}
json.dump(result, sys.stdout)
