"""Every case with Pydantic AI over the official SDKs, unmodified except for base URL and key. A job in, JSON out."""
import asyncio
import base64
import json
import sys

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

job = json.load(sys.stdin)


class Report(BaseModel):
    city: str
    degrees: int


def chat(dialect, model, retries=0):
    url, token = job["url"], job["token"]
    if dialect == "openai":
        sdk = AsyncOpenAI(base_url=url + "/v1", api_key=token, max_retries=retries)
        return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=sdk))
    if dialect == "anthropic":
        sdk = AsyncAnthropic(base_url=url, api_key=token, max_retries=retries)
        return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=sdk))
    return GoogleModel(model, provider=GoogleProvider(api_key=token, base_url=url))


def used(usage):
    return {"input": usage.input_tokens, "output": usage.output_tokens}


async def weather_agent(model):
    agent = Agent(model)

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return job["weather"][city]

    return agent


def calls(messages):
    parts = [part for message in messages if isinstance(message, ModelResponse) for part in message.parts]
    return [[part.tool_name, part.args_as_dict()] for part in parts if isinstance(part, ToolCallPart)]


async def every(dialect, name):
    model = chat(dialect, name)
    agent = Agent(model)
    seen = {}
    answer = await agent.run("Hello")
    seen["text"] = {"text": answer.output, **used(answer.usage)}
    async with agent.run_stream("Hello") as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True, debounce_by=None)]
    seen["stream"] = {"text": "".join(pieces), "pieces": len(pieces), **used(streamed.usage)}
    answer = await (await weather_agent(model)).run("How is the weather?")
    seen["tools"] = {"calls": calls(answer.all_messages()), "text": answer.output}
    async with (await weather_agent(model)).run_stream("How is the weather?") as streamed:
        text = await streamed.get_output()
    seen["stream_tools"] = {"calls": calls(streamed.all_messages()), "text": text}
    picture = BinaryContent(data=base64.b64decode(job["image"]), media_type="image/png")
    seen["image"] = {"text": (await agent.run(["What is this?", picture])).output}
    try:
        answer = await Agent(model, output_type=Report).run("Please report.")
        seen["report"] = {"value": answer.output.model_dump()}
    except ModelHTTPError as error:
        seen["report"] = {"refused": error.status_code}
    if dialect != "anthropic":
        answer = await Agent(model, output_type=NativeOutput(Report)).run("Please report.")
        seen["native_report"] = {"value": answer.output.model_dump()}
    seen["errors"] = []
    for status in job["statuses"]:
        try:
            await agent.run(f"Fail with {status} please")
        except ModelHTTPError as error:
            told = {"class": ModelHTTPError.__name__, "status": error.status_code, "message": str(error.body)}
            seen["errors"].append(told)
    if dialect != "gemini":
        patient = Agent(chat(dialect, name, 2))
        seen["retry"] = {"text": (await patient.run(f"Fail once for {dialect} in {__file__} {name}")).output}
    return seen


async def main():
    dialects = ["openai", "anthropic", "gemini"]
    return {f"{dialect} {model}": await every(dialect, model) for dialect in dialects for model in job["models"]}


json.dump(asyncio.run(main()), sys.stdout)
