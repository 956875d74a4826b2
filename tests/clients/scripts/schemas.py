"""Validates answers against the schemas OpenAI and Anthropic publish. A job in, JSON out: what does not fit, and how often."""
import collections
import json
import pathlib
import sys

from jsonschema import Draft202012Validator

job = json.load(sys.stdin)
SPECS = {"openai": "openai-openapi.json", "anthropic": "anthropic-openapi-unofficial.json"}
KINDS = {
    "chat": ("openai", "CreateChatCompletionResponse"),
    "chat-chunk": ("openai", "CreateChatCompletionStreamResponse"),
    "chat-error": ("openai", "ErrorResponse"),
    "response": ("openai", "Response"),
    "response-event": ("openai", "ResponseStreamEvent"),
    "models": ("openai", "ListModelsResponse"),
    "model": ("openai", "Model"),
    "message": ("anthropic", "Message"),
    "message-event": ("anthropic", "MessageStreamEvent"),
    "message-error": ("anthropic", "ErrorResponse"),
}
NOT_SCHEMA = {"discriminator", "example", "examples", "deprecated", "readOnly", "format"}
# Members whose text decides which schema applies. All other texts are alike.
TELLING = {"type", "object", "role", "finish_reason", "stop_reason", "status", "service_tier", "code"}


def plain(node, names=False):
    """A schema of OpenAPI as JSON Schema has it."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {name: plain(schema) for name, schema in node.items()}
    kept = {k: plain(v, k in ("properties", "schemas")) for k, v in node.items() if k not in NOT_SCHEMA and v is not None}
    # Alternatives that overlap are told apart by a discriminator, which JSON Schema has not.
    if "oneOf" in kept:
        kept["anyOf"] = kept.pop("oneOf") + kept.get("anyOf", [])
    return {"anyOf": [kept, {"type": "null"}]} if kept.pop("nullable", False) else kept


def components(spec):
    return plain(json.loads((pathlib.Path(job["specs"]) / SPECS[spec]).read_text()))["components"]["schemas"]


SCHEMAS = {spec: components(spec) for spec in SPECS}


def variants(spec, name):
    """The schema, or for a union of events its members by their `type`."""
    schema = SCHEMAS[spec][name]
    members = {}
    for member in schema.get("anyOf", []):
        reference = member.get("$ref", "").rsplit("/", 1)[-1]
        kind = SCHEMAS[spec].get(reference, {}).get("properties", {}).get("type", {})
        for value in [kind.get("const")] if "const" in kind else kind.get("enum", []):
            members[value] = reference
    return members


def shape(value, name=None):
    """What of an answer its schema can tell apart."""
    if isinstance(value, dict):
        return tuple((k, shape(v, k)) for k, v in sorted(value.items()))
    if isinstance(value, list):
        return tuple(dict.fromkeys(shape(item) for item in value))
    return value if name in TELLING else type(value).__name__


def known(kind, value):
    """An answer without content blocks that this edition of the schema has no word for; `None` if that is all it is about."""
    if not kind.startswith("message") or "error" in value:
        return value
    blocks = {"text", "tool_use"}
    if "content" in value:
        return {**value, "content": [block for block in value["content"] if block["type"] in blocks]}
    if value.get("type") == "content_block_start" and value["content_block"]["type"] not in blocks:
        return None
    if value.get("type") == "content_block_delta" and value["delta"]["type"] not in ("text_delta", "input_json_delta"):
        return None
    return None if value.get("type") == "ping" else value


validators = {}


def of_the_sdk(value):
    """Of Anthropic's models there is no published schema: its SDK's types are made of one."""
    from anthropic.types import ModelInfo
    from pydantic import ValidationError

    try:
        ModelInfo.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        yield from (f"{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


def violations(kind, value):
    if kind == "anthropic-model":
        yield from of_the_sdk(value)
        return
    spec, name = KINDS[kind]
    members = variants(spec, name)
    if members:
        if value.get("type") not in members:
            yield f"type {value.get('type')} is not known"
            return
        name = members[value["type"]]
    if (spec, name) not in validators:
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS[spec]}}
        validators[spec, name] = Draft202012Validator(schema)
    for error in validators[spec, name].iter_errors(value):
        path = "/".join("#" if isinstance(part, int) else part for part in error.absolute_path)
        told = error.message if error.validator == "required" else f"{error.validator} {json.dumps(error.validator_value)[:80]}"
        yield f"{value.get('type', '')} {path}: {told}"


found, where, seen = collections.Counter(), {}, set()
for answer in job["answers"]:
    value = known(answer["kind"], answer["body"])
    if value is None:
        continue
    key = (answer["kind"], shape(value))
    if key in seen:
        continue
    seen.add(key)
    for violation in violations(answer["kind"], value):
        line = f"{answer['kind']} {violation}"
        found[line] += 1
        where.setdefault(line, answer["name"])
json.dump({"shapes": len(seen), "violations": [[line, count, where[line]] for line, count in found.most_common()]}, sys.stdout)
