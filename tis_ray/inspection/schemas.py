"""JSON Schemas of options in a few words for a person: `number > 0`, `batch | sync | group | null`."""

import json
from typing import Any

_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def in_words(schema: dict[str, Any]) -> str:
    """What values a schema takes, in the words of YAML."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(in_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(_value(one) for one in schema["enum"])
    if "const" in schema:
        return _value(schema["const"])
    if schema.get("type") == "array":
        return _array(schema)
    if schema.get("type") == "object":
        return _mapping(schema)
    if schema.get("format") == "path":
        return "path"
    name = str(schema.get("type", "anything"))
    bounds = " and ".join(f"{sign} {schema[bound]:g}" for bound, sign in _BOUNDS.items() if bound in schema)
    return f"{name} {bounds}" if bounds else name


def _array(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(in_words(one) for one in schema['prefixItems'])}]"
    return f"list of {_bracketed(schema['items'])}" if "items" in schema else "list"


def _mapping(schema: dict[str, Any]) -> str:
    values = schema.get("additionalProperties")
    return f"mapping to {_bracketed(values)}" if isinstance(values, dict) else "mapping"


def _bracketed(schema: dict[str, Any]) -> str:
    words = in_words(schema)
    return f"({words})" if " | " in words else words


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
