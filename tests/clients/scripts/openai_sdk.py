"""The official OpenAI SDK, unmodified except for base URL and key. A job, or the steps of one: JSON in, JSON out."""
import json
import sys

import openai

job = json.load(sys.stdin)
client = openai.OpenAI(base_url=job["url"] + "/v1", api_key=job["token"], max_retries=job.get("max_retries", 0))


def usage(of):
    return of and {"input": of.prompt_tokens, "output": of.completion_tokens}


def called(call):
    if call.type == "custom":
        return {"name": call.custom.name, "arguments": json.dumps({"input": call.custom.input})}
    return {"name": call.function.name, "arguments": call.function.arguments}


def chat(**arguments):
    answer = client.chat.completions.create(**arguments)
    choice = answer.choices[0]
    calls = [called(call) for call in choice.message.tool_calls or []]
    return {"text": (choice.message.content or "") + (choice.message.refusal or ""), "finish": choice.finish_reason, "calls": calls, "usage": usage(answer.usage)}


def stream(**arguments):
    text, finish, used, chunks, calls = "", None, None, 0, {}
    for chunk in client.chat.completions.create(stream=True, **arguments):
        chunks += 1
        used = usage(chunk.usage) or used
        for choice in chunk.choices:
            if choice.index > 0:
                continue
            text += (choice.delta.content or "") + (choice.delta.refusal or "")
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, {"name": "", "arguments": ""})
                known["name"] += (call.function and call.function.name) or ""
                known["arguments"] += (call.function and call.function.arguments) or ""
    return {"text": text, "finish": finish, "usage": used, "chunks": chunks, "calls": list(calls.values())}


def embed(**arguments):
    answer = client.embeddings.create(**arguments)
    return {"dimensions": len(answer.data[0].embedding), "count": len(answer.data)}


def complete(**arguments):
    answer = client.completions.create(**arguments)
    return {"text": answer.choices[0].text, "count": len(answer.choices)}


def complete_stream(**arguments):
    chunks = client.completions.create(stream=True, **arguments)
    return {"text": "".join(choice.text for chunk in chunks for choice in chunk.choices)}


def moderate(**arguments):
    return {"flagged": [result.flagged for result in client.moderations.create(**arguments).results]}


def image(**arguments):
    data = client.images.generate(**arguments).data
    return {"count": len(data), "url": data[0].url, "b64": data[0].b64_json}


def speak(**arguments):
    return {"bytes": len(client.audio.speech.create(**arguments).read())}


def transcribe(**arguments):
    return {"text": client.audio.transcriptions.create(file=("a.wav", b"RIFF\0\r\n--WAVE"), **arguments).text}


def models():
    return {"ids": [model.id for model in client.models.list()]}


def run(step):
    scenarios = [chat, stream, embed, complete, complete_stream, moderate, image, speak, transcribe, models]
    scenario = {scenario.__name__: scenario for scenario in scenarios}[step["scenario"]]
    try:
        return scenario(**step.get("arguments", {}))
    except openai.APIStatusError as error:
        told = {"error": type(error).__name__, "status": error.status_code, "code": error.code, "message": error.message}
        return {**told, "request_id": error.request_id, "retry_after": error.response.headers.get("retry-after")}
    except openai.APIError as error:
        return {"error": type(error).__name__, "message": str(error), "code": error.code}


json.dump({"results": [run(step) for step in job["steps"]]} if "steps" in job else run(job), sys.stdout)
