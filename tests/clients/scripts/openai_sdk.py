"""The official OpenAI SDK, unmodified except for base URL and key. One scenario a run: JSON in, JSON out."""
import json
import sys

import openai

job = json.load(sys.stdin)
client = openai.OpenAI(base_url=job["url"] + "/v1", api_key=job["token"], max_retries=job.get("max_retries", 0))
arguments = job.get("arguments", {})


def usage(of):
    return of and {"input": of.prompt_tokens, "output": of.completion_tokens}


def chat():
    answer = client.chat.completions.create(**arguments)
    choice = answer.choices[0]
    calls = [{"name": c.function.name, "arguments": c.function.arguments} for c in choice.message.tool_calls or []]
    return {"text": choice.message.content, "finish": choice.finish_reason, "calls": calls, "usage": usage(answer.usage)}


def stream():
    text, finish, used, chunks, calls = "", None, None, 0, {}
    for chunk in client.chat.completions.create(stream=True, **arguments):
        chunks += 1
        used = usage(chunk.usage) or used
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, {"name": "", "arguments": ""})
                known["name"] += (call.function and call.function.name) or ""
                known["arguments"] += (call.function and call.function.arguments) or ""
    return {"text": text, "finish": finish, "usage": used, "chunks": chunks, "calls": list(calls.values())}


def embed():
    answer = client.embeddings.create(**arguments)
    return {"dimensions": len(answer.data[0].embedding), "count": len(answer.data)}


def models():
    return {"ids": [model.id for model in client.models.list()]}


try:
    result = {"chat": chat, "stream": stream, "embed": embed, "models": models}[job["scenario"]]()
except openai.APIStatusError as error:
    result = {"error": type(error).__name__, "status": error.status_code, "code": error.code, "request_id": error.request_id}
except openai.APIError as error:
    result = {"error": type(error).__name__, "message": str(error), "code": error.code}
json.dump(result, sys.stdout)
