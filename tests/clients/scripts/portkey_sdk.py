"""Portkey's SDK, unmodified except for base URL and key. The steps of a job: JSON in, JSON out."""

import json
import sys

from portkey_ai import Portkey

job = json.load(sys.stdin)
client = Portkey(base_url=f"{job['url']}/v1", api_key=job["token"], provider="openai")


def chat(arguments):
    answer = client.chat.completions.create(**arguments)
    choice = answer.choices[0]
    calls = [{"name": c.function.name, "arguments": c.function.arguments} for c in choice.message.tool_calls or []]
    return {"text": choice.message.content or "", "finish": choice.finish_reason, "calls": calls}


def stream(arguments):
    result = {"text": "", "chunks": 0}
    for chunk in client.chat.completions.create(stream=True, **arguments):
        result["chunks"] += 1
        for choice in chunk.choices:
            result["text"] += choice.delta.content or ""
    return result


results = []
for step in job["steps"]:
    try:
        results.append({"chat": chat, "stream": stream}[step["scenario"]](step["arguments"]))
    except Exception as error:
        status = getattr(error, "status_code", None)
        if status is None:
            raise
        results.append({"error": type(error).__name__, "status": status, "message": str(error)})
print(json.dumps({"results": results}))
