"""Every case with LangChain's client for OpenAI, unmodified except for base URL and key. A job in, JSON out."""
import json
import sys

import openai
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

job = json.load(sys.stdin)


class Report(BaseModel):
    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return job["weather"][city]


def chat(model, retries=0):
    return ChatOpenAI(model=model, base_url=job["url"] + "/v1", api_key=job["token"], max_retries=retries, stream_usage=True)


def used(usage):
    return {"input": usage["input_tokens"], "output": usage["output_tokens"]}


def text(model):
    answer = chat(model).invoke("Hello")
    return {"text": answer.text, **used(answer.usage_metadata)}


def stream(model):
    whole, pieces = None, 0
    for chunk in chat(model).stream("Hello"):
        pieces += bool(chunk.text)
        whole = chunk if whole is None else whole + chunk
    return {"text": whole.text, "pieces": pieces, **used(whole.usage_metadata)}


def tools(model, streamed=False):
    bound, messages, seen = chat(model).bind_tools([get_weather]), [HumanMessage("How is the weather?")], []
    while True:
        if streamed:
            message = None
            for chunk in bound.stream(messages):
                message = chunk if message is None else message + chunk
        else:
            message = bound.invoke(messages)
        if not message.tool_calls:
            return {"calls": seen, "text": message.text}
        messages.append(message)
        for call in message.tool_calls:
            seen.append([call["name"], call["args"]])
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))


def image(model):
    picture = {"type": "image", "base64": job["image"], "mime_type": "image/png"}
    return {"text": chat(model).invoke([HumanMessage([{"type": "text", "text": "What is this?"}, picture])]).text}


def report(model):
    return {"value": chat(model).with_structured_output(Report).invoke("Please report.").model_dump()}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            chat(model).invoke(f"Fail with {status} please")
        except openai.APIStatusError as error:
            # LangChain's own are further kinds of the SDK's.
            of_the_sdk = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("openai"))
            seen.append({"class": of_the_sdk, "status": error.status_code, "message": error.message})
    return seen


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "errors": errors(model),
        "retry": {"text": chat(model, 2).invoke(f"Fail once for {__file__} {model}").text},
    }


json.dump({model: every(model) for model in job["models"]}, sys.stdout)
