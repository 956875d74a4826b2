"""Every case with AWS's SDK on Bedrock Runtime, unmodified except for endpoint and key. A job in, JSON out."""
import base64
import json
import os
import sys

job = json.load(sys.stdin)
# As AWS documents it: a Bedrock API key in the environment is sent as it is, and nothing is signed.
os.environ.update(AWS_BEARER_TOKEN_BEDROCK=job["token"], AWS_EC2_METADATA_DISABLED="true")

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import BaseModel

TOOLS = {"tools": [{"toolSpec": {
    "name": "get_weather", "description": "The weather in a city", "inputSchema": {"json": job["parameters"]},
}}]}


def connect(attempts):
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"})
    endpoint = job["url"] + "/providers/bedrock"
    at = {"region_name": "eu-central-1", "endpoint_url": endpoint, "verify": job["ca"]}
    return boto3.client("bedrock-runtime", config=config, **at)


client = connect(1)


class Report(BaseModel):
    city: str
    degrees: int


def user(*content):
    return [{"role": "user", "content": [{"text": part} if isinstance(part, str) else part for part in content]}]


def used(usage):
    return {"input": usage["inputTokens"], "output": usage["outputTokens"]}


def said(answer):
    return "".join(block.get("text", "") for block in answer["output"]["message"]["content"])


def text(model):
    answer = client.converse(modelId=model, messages=user("Hello"))
    return {"text": said(answer), **used(answer["usage"])}


def streamed(model, messages, **more):
    blocks, pieces, usage = {}, 0, None
    for event in client.converse_stream(modelId=model, messages=messages, **more)["stream"]:
        if "contentBlockStart" in event:
            start = event["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif "contentBlockDelta" in event:
            at, delta = event["contentBlockDelta"]["contentBlockIndex"], event["contentBlockDelta"]["delta"]
            if "text" in delta:
                pieces += 1
                blocks.setdefault(at, {"text": ""})["text"] += delta["text"]
            else:
                blocks[at]["toolUse"]["input"] += delta["toolUse"]["input"]
        elif "metadata" in event:
            usage = event["metadata"]["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": list(blocks.values())}, pieces, usage


def stream(model):
    message, pieces, usage = streamed(model, user("Hello"))
    return {"text": message["content"][0]["text"], "pieces": pieces, **used(usage)}


def tools(model, in_pieces=False):
    messages, seen = user("How is the weather?"), []
    while True:
        if in_pieces:
            message = streamed(model, messages, toolConfig=TOOLS)[0]
        else:
            message = client.converse(modelId=model, messages=messages, toolConfig=TOOLS)["output"]["message"]
        calls = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        if not calls:
            return {"calls": seen, "text": message["content"][0]["text"]}
        results = []
        for call in calls:
            seen.append([call["name"], call["input"]])
            weather = [{"text": job["weather"][call["input"]["city"]]}]
            results.append({"toolResult": {"toolUseId": call["toolUseId"], "content": weather}})
        messages += [message, *user(*results)]


def image(model):
    picture = {"image": {"format": "png", "source": {"bytes": base64.b64decode(job["image"])}}}
    return {"text": said(client.converse(modelId=model, messages=user("What is this?", picture)))}


def report(model):
    schema = {"name": "report", "schema": json.dumps(Report.model_json_schema())}
    form = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    answer = client.converse(modelId=model, messages=user("Please report."), outputConfig=form)
    return {"value": Report.model_validate_json(said(answer)).model_dump()}


def invoke(model):
    asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    whole = json.loads(client.invoke_model(modelId=model, body=json.dumps(asked))["body"].read())
    events = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(asked))["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in events]
    pieces = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    usage = whole["usage"]
    return {
        "text": whole["content"][0]["text"], "streamed": "".join(pieces),
        "input": usage["input_tokens"], "output": usage["output_tokens"],
    }


def count(model):
    return {"input": client.count_tokens(modelId=model, input={"converse": {"messages": user("Hello")}})["inputTokens"]}


def failure(error):
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return {"class": type(error).__name__, "status": status, "message": error.response["Error"]["Message"]}


def errors(model):
    seen = []
    for status in job["statuses"]:
        try:
            client.converse(modelId=model, messages=user(f"Fail with {status} please"))
        except ClientError as error:
            seen.append(failure(error))
    return seen


def refused():
    try:
        client.converse(modelId="other", messages=user("Hello"))
    except client.exceptions.AccessDeniedException as error:  # typed, also when the gateway says it
        told = failure(error)
        return {"class": told["class"], "status": told["status"]}


def retry(model):
    return {"text": said(connect(3).converse(modelId=model, messages=user(f"Fail once for {__file__} {model}")))}


def every(model):
    return {
        "text": text(model), "stream": stream(model), "tools": tools(model), "stream_tools": tools(model, True),
        "image": image(model), "report": report(model), "invoke": invoke(model), "count": count(model),
        "errors": errors(model), "retry": retry(model), "refused": refused(),
    }


json.dump({"m": every("m")}, sys.stdout)
