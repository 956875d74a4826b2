"""Every case with Google's official SDK, unmodified except for base URL and key. A job in, JSON out."""
import base64
import json
import sys

from google import genai
from google.genai import errors as failures
from google.genai import types
from pydantic import BaseModel

job = json.load(sys.stdin)


def connect(attempts):
    retries = types.HttpRetryOptions(attempts=attempts, initial_delay=0.01)
    options = types.HttpOptions(base_url=job["url"], retry_options=retries)
    return genai.Client(api_key=job["token"], http_options=options)


client = connect(1)
FUNCTION = types.FunctionDeclaration(
    name="get_weather", description="The weather in a city", parameters_json_schema=job["parameters"]
)
TOOLS = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[FUNCTION])])


class Report(BaseModel):
    city: str
    degrees: int


def used(answer):
    return {
        "input": answer.usage_metadata.prompt_token_count, "output": answer.usage_metadata.candidates_token_count
    }


def text(model):
    answer = client.models.generate_content(model=model, contents="Hello")
    return {"text": answer.text, **used(answer)}


def stream(model):
    said, pieces, usage = "", 0, None
    for chunk in client.models.generate_content_stream(model=model, contents="Hello"):
        pieces += bool(chunk.text)
        said += chunk.text or ""
        usage = chunk if chunk.usage_metadata else usage
    return {"text": said, "pieces": pieces, **used(usage)}


def tools(model, streamed=False):
    contents, seen = [types.UserContent("How is the weather?")], []
    while True:
        if streamed:
            chunks = list(client.models.generate_content_stream(model=model, contents=contents, config=TOOLS))
            parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts or []]
        else:
            parts = client.models.generate_content(model=model, contents=contents, config=TOOLS).candidates[0].content.parts
        calls = [part.function_call for part in parts if part.function_call]
        if not calls:
            return {"calls": seen, "text": "".join(part.text or "" for part in parts)}
        results = []
        for call in calls:
            seen.append([call.name, call.args])
            answer = {"result": job["weather"][call.args["city"]]}
            results.append(types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response=answer)))
        contents += [types.Content(role="model", parts=parts), types.Content(role="user", parts=results)]


def automatic(model):
    """The SDK calls the function itself."""

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return job["weather"][city]

    config = types.GenerateContentConfig(tools=[get_weather])
    return client.models.generate_content(model=model, contents="How is the weather?", config=config).text


def image(model):
    picture = types.Part.from_bytes(data=base64.b64decode(job["image"]), mime_type="image/png")
    return {"text": client.models.generate_content(model=model, contents=[picture, "What is this?"]).text}


def report(model):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Report)
    answer = client.models.generate_content(model=model, contents="Please report.", config=config)
    return {"value": answer.parsed.model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.models.generate_content(model=model, contents=f"Fail with {status} please")
        except failures.APIError as error:
            seen.append({"class": type(error).__name__, "status": error.code, "message": error.message})
    return seen


def retry(model):
    patient = connect(3)
    return {"text": patient.models.generate_content(model=model, contents=f"Fail once for {__file__} {model}").text}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "errors": errors(model), "retry": retry(model),
        "automatic": automatic(model),
    }


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
