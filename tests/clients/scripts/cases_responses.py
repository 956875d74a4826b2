"""Every case of the Responses API with the official OpenAI SDK, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

import openai
from pydantic import BaseModel

job = json.load(sys.stdin)
client = openai.OpenAI(base_url=job["url"] + "/v1", api_key=job["token"], max_retries=0)
WEATHER = {
    "type": "function", "name": "get_weather", "description": "The weather in a city",
    "parameters": job["parameters"], "strict": False,
}


class Report(BaseModel):
    city: str
    degrees: int


def used(usage):
    return {"input": usage.input_tokens, "output": usage.output_tokens}


def text(model):
    answer = client.responses.create(model=model, input="Hello", instructions="Be kind.")
    return {"text": answer.output_text, **used(answer.usage)}


def stream(model):
    pieces = 0
    with client.responses.stream(model=model, input="Hello") as answer:
        for event in answer:
            pieces += event.type == "response.output_text.delta"
        final = answer.get_final_response()
    assert final.status == "completed", final
    return {"text": final.output_text, "pieces": pieces, **used(final.usage)}


def tools(model, streamed=False):
    items, seen = [{"role": "user", "content": "How is the weather?"}], []
    while True:
        asked = {"model": model, "input": items, "tools": [WEATHER], "store": False}
        if streamed:
            with client.responses.stream(**asked) as answer:
                for _ in answer:
                    pass
                answer = answer.get_final_response()
        else:
            answer = client.responses.create(**asked)
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return {"calls": seen, "text": answer.output_text}
        items += answer.output
        for call in calls:
            arguments = json.loads(call.arguments)
            seen.append([call.name, arguments])
            output = job["weather"][arguments["city"]]
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


def image(model):
    url = "data:image/png;base64," + job["image"]
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
    answer = client.responses.create(model=model, input=[{"role": "user", "content": content}])
    return {"text": answer.output_text}


def report(model):
    answer = client.responses.parse(model=model, input="Please report.", text_format=Report)
    return {"value": answer.output_parsed.model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.responses.create(model=model, input=f"Fail with {status} please")
        except openai.APIStatusError as error:
            seen.append({"class": type(error).__name__, "status": error.status_code, "message": error.message})
    return seen


def retry(model):
    patient = client.with_options(max_retries=2)
    answer = patient.responses.create(model=model, input=f"Fail once for {__file__} {model}")
    return {"text": answer.output_text}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "errors": errors(model), "retry": retry(model),
    }


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
