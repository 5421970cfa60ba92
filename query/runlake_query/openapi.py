"""The OpenAPI 3.1 document, made from the route table that serves and the types that read and write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from runlake_query.answers import JSON
from runlake_query.parameterdocs import HEADERS, PARAMETERS, PATHS
from runlake_query.problems import CONTENT_TYPE, ProblemBody
from runlake_query.routes import Route

_REF = "#/components/schemas/{name}"
_PROBLEMS = {
    400: "Something given cannot be used; `detail` names it",
    401: "No token, or not the right one",
    403: "The token is not for that",
    404: "There is no such run, or no such refused message",
    413: "The body is too large",
    415: "The body does not say that it is JSON",
    503: "Not now: ingest is away, or the read model has not caught up. Try again after `Retry-After` seconds",
}
_POSITION = {
    "description": "The position in the log that the answer reflects, or that the write got",
    "schema": {"type": "string"},
}


def openapi(routes: Sequence[Route]) -> bytes:
    """The document, as JSON."""
    kinds: list[Any] = [ProblemBody]
    for route in routes:
        kinds += [kind for answer in route.answers.values() for kind in answer.content.values() if kind is not None]
        kinds += [route.body] if route.body is not None else []
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    schema_of = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "RunLake", "version": version("runlake"), "description": "The flight recorder for agents."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }
    return msgspec.json.encode(_tidy(document))


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in route.answers.items():
        content: dict[str, Any] = {}
        for kind, shape in answer.content.items():
            content[kind] = {"schema": schema_of[repr(shape)] if shape is not None else {"type": "string"}}
            if answer.example is not None and kind == JSON:
                content[kind]["example"] = answer.example
        responses[str(status)] = {"description": answer.description, "content": content}
        if route.path.startswith("/api/"):
            responses[str(status)]["headers"] = {"RunLake-Position": _POSITION}
    if route.tagged:
        responses["304"] = {"description": "What `If-None-Match` names is still the answer"}
    guards = () if route.open else (401, 403) if route.method != "GET" else (401,)
    for status in sorted((400, *guards, *route.problems)):
        responses[str(status)] = _problem(status)
    responses["default"] = _problem(500)
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": responses,
    }
    if route.open:
        operation["security"] = [{}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: _body(route, schema_of[repr(route.body)])}}
    return operation


def _body(route: Route, schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(route.body_example, dict) and "runs" in route.body_example:
        several = {**schema, "minItems": 1, "maxItems": 1_000}
        whole = {"type": "object", "required": ["runs"], "properties": {"runs": several}}
        schema = {"anyOf": [whole, several]}
    return {"schema": schema, "example": route.body_example}


def _problem(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _PROBLEMS.get(status, "Something went wrong; the log has more under the id in `detail`"),
        "content": {
            CONTENT_TYPE: {
                "schema": {"$ref": _REF.format(name="ProblemBody")},
                "example": {
                    "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": "…",
                },
            }
        },
    }  # fmt: skip
    if status == 503:
        found["headers"] = {"Retry-After": {"required": True, "schema": {"type": "string"}}}
    if status == 401:
        found["headers"] = {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}}
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, **PATHS["event_id" if route.by_event_id else name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    found += [{"name": name, "in": "query", **PARAMETERS[name]} for name in route.parameters]
    found += [{"name": name, "in": "header", **HEADERS[name]} for name in route.headers]
    return found


def _operation_id(route: Route) -> str:
    words = re.sub(r"\W+", "_", route.path.removeprefix("/api/v1")).strip("_")
    return f"{route.method.lower()}_{words}"


def _tidy(value: Any) -> Any:
    """JSON Schema as others read it: ECMA patterns, decimals as the numbers that they are."""
    if isinstance(value, dict):
        if value.get("format") == "decimal":
            return {"type": "number", "minimum": 0, "exclusiveMaximum": 10**9}
        return {key: _pattern(item) if key == "pattern" else _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    return value


def _pattern(value: Any) -> Any:
    return value.replace(r"\Z", "$") if isinstance(value, str) else _tidy(value)
