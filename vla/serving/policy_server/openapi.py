"""The HTTP interface in OpenAPI's words."""

from __future__ import annotations

from typing import Any

import vla
from vla.serving.policy_server.contract import GRIPPERS, Served

_ARRAY: dict[str, Any] = {
    "description": "An array as the json-numpy library writes it, or nested lists of numbers.",
    "oneOf": [
        {
            "type": "object", "required": ["__numpy__", "dtype", "shape"],
            "properties": {
                "__numpy__": {"type": "string", "format": "byte", "description": "the elements, base64"},
                "dtype": {"type": "string", "examples": ["|u1", "<f4"]},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            },
        },
        {"type": "array", "items": {}},
    ],
}  # fmt: skip
_TIMING = {"type": "object", "properties": {"queue_ms": {"type": "number"}, "infer_ms": {"type": "number"}}}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def describe(served: Served, needs_token: bool) -> dict[str, Any]:
    """
    An OpenAPI 3.1 document.

    Args:
        served: what is behind it.
        needs_token: whether clients must have one.
    """
    body = {"200": _json("it fits", {"type": "object"})} | _errors(400, 408, 409, 413)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Policy {served.policy}", "version": vla.__version__,
            "description": "Observations in, actions out. The WebSocket at / takes the same messages as msgpack.",
        },
        "security": [{"token": []}] if needs_token else [],
        "paths": {
            "/act": {"post": _act(served)},
            "/contract": {
                "get": _get("what observations and actions mean", "application/json"),
                "post": {
                    "summary": "whether a client means the same: any part of the contract, nested as it is there",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                    "responses": body,
                },
            },
            "/live.json": {
                "get": _get("the newest observation and answer, for the page", "application/json", 400)
                | {"parameters": [_parameter("client", "string"), _parameter("after", "integer")]}
            },
            "/metrics": {"get": _get("counters, for Prometheus", "text/plain")},
            "/healthz": {"get": _health()},
            "/openapi.json": {"get": _get("this document", "application/json", secured=False)},
            "/": {"get": _get("a page that shows what the policy sees and does", "text/html", secured=False)},
        },
        "components": {
            "schemas": {"Array": _ARRAY, "Error": _ERROR, "Observation": _observation(served)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }  # fmt: skip


def _act(served: Served) -> dict[str, Any]:
    array = {"$ref": "#/components/schemas/Array"}
    everything = {
        "type": "object", "required": ["actions", "server_timing"],
        "properties": {
            "actions": array, "server_timing": _TIMING, "anomaly": {"type": "number"},
            "alarm": {"type": "boolean"}, "request_id": {},
        },
    }  # fmt: skip
    answer = _json("by `answer`; a string that holds it where the request was `encoded`", {})
    answer["content"]["application/json"]["schema"] = {
        "anyOf": [array, {"type": "array", "items": array}, everything, {"type": "string"}]
    }
    encoded = {
        "type": "object", "required": ["encoded"], "additionalProperties": False,
        "properties": {"encoded": {"type": "string", "description": "the observation as JSON in a string"}},
    }  # fmt: skip
    schema = {"anyOf": [{"$ref": "#/components/schemas/Observation"}, encoded]}
    return {
        "summary": f"actions for an observation; the gripper: {GRIPPERS[served.gripper]}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": answer} | _errors(400, 401, 408, 409, 413, 500, 503),
    }


def _observation(served: Served) -> dict[str, Any]:
    array = {"$ref": "#/components/schemas/Array"}
    cameras = dict.fromkeys(served.cameras, array)
    properties: dict[str, Any] = {
        "images": {
            "type": "object", "properties": cameras,
            "description": f"by camera: uint8 [height, width, 3], or with {served.num_frames} frames in front",
        },
        "image": array | {"description": "the first camera, as OpenVLA's clients send it"},
        "proprio": array | {"description": "the robot's state, where the policy looks at it"},
        "instruction": {"type": "string", "minLength": 1, "maxLength": 2000},
        "unnorm_key": {"type": ["string", "null"], "description": "checked, never needed"},
        "answer": {"enum": ["action", "chunk", "list", "all"], "default": "action"},
        "session": {"type": "string", "minLength": 1, "maxLength": 128, "description": "the server keeps its chunk"},
        "reset": {"type": "boolean", "description": "a new episode of the session begins"},
        "step": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "contract": {"type": "object", "description": "see POST /contract"},
        "request_id": {"type": ["string", "integer"]},
    }  # fmt: skip
    return {"type": "object", "required": ["instruction"], "properties": properties}


def _parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": {"type": kind}}


def _get(summary: str, media_type: str, *errors: int, secured: bool = True) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "well", "content": {media_type: {}}}}
    found: dict[str, Any] = {"summary": summary, "responses": responses | _errors(*errors, *([401] if secured else []))}
    return found if secured else found | {"security": []}


def _health() -> dict[str, Any]:
    found = _get("whether observations are taken", "application/json", secured=False)
    found["responses"]["503"] = _json("the server is stopping", {"type": "object"})
    return found


def _errors(*codes: int) -> dict[str, Any]:
    texts = {
        400: "the message is wrong", 401: "no token, or a wrong one", 408: "the body took too long",
        409: "the client means something else", 413: "the body is too large", 500: "the policy failed",
        503: "the queue is full, or the server is stopping",
    }  # fmt: skip
    return {str(code): _json(texts[code], {"$ref": "#/components/schemas/Error"}) for code in codes}


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
