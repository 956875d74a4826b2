"""The official OpenAI SDK's realtime client, unmodified except for base URL and key. A job: JSON in, JSON out."""
import asyncio
import json
import sys

import openai

job = json.load(sys.stdin)
client = openai.AsyncOpenAI(base_url=job["url"] + "/v1", api_key=job["token"])


async def main():
    told = {"text": ""}
    async with client.realtime.connect(model=job["model"]) as connection:
        await connection.session.update(session={"type": "realtime", "model": "another", "output_modalities": ["text"]})
        await connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello there"}]}
        )
        await connection.response.create()
        async for event in connection:
            if event.type == "error":
                told["refused"] = event.error.code
            elif event.type == "response.output_text.delta":
                told["text"] += event.delta
            elif event.type == "response.done":
                told["usage"] = {"input": event.response.usage.input_tokens, "output": event.response.usage.output_tokens}
                break
    return told


json.dump(asyncio.run(main()), sys.stdout)
