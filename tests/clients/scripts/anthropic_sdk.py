"""The official Anthropic SDK, unmodified except for base URL and key. A job, or the steps of one: JSON in, JSON out."""
import json
import sys

import anthropic

job = json.load(sys.stdin)
client = anthropic.Anthropic(base_url=job["url"], api_key=job["token"], max_retries=job.get("max_retries", 0))


def summary(message):
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [{"name": block.name, "input": block.input} for block in message.content if block.type == "tool_use"]
    cached = (message.usage.cache_read_input_tokens or 0) + (message.usage.cache_creation_input_tokens or 0)
    used = {"input": message.usage.input_tokens + cached, "output": message.usage.output_tokens}
    return {"text": text, "stop": message.stop_reason, "calls": calls, "usage": used}


def message(**arguments):
    return summary(client.messages.create(**arguments))


def stream(**arguments):
    events = []
    with client.messages.stream(**arguments) as answer:
        for event in answer:
            events.append(event.type)
        return {**summary(answer.get_final_message()), "events": events}


def count(**arguments):
    return {"input_tokens": client.messages.count_tokens(**arguments).input_tokens}


def models():
    return {"ids": [model.id for model in client.models.list()]}


def run(step):
    scenario = {"message": message, "stream": stream, "count": count, "models": models}[step["scenario"]]
    try:
        return scenario(**step.get("arguments", {}))
    except anthropic.APIStatusError as error:
        told = {"error": type(error).__name__, "status": error.status_code, "body": error.body, "message": error.message}
        return {**told, "request_id": error.request_id, "retry_after": error.response.headers.get("retry-after")}
    except anthropic.APIError as error:
        return {"error": type(error).__name__, "message": str(error)}


json.dump({"results": [run(step) for step in job["steps"]]} if "steps" in job else run(job), sys.stdout)
