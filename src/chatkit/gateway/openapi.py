"""The OpenAPI 3.1 document, made from the same operations as the routes and the same structs as the bodies."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from ..core.search import QUERY_MAX
from ..wire import http as wire

_QUERY: dict[str, dict[str, Any]] = {
    "fromSeq": {"schema": {"type": "integer", "minimum": 1, "default": 1}},
    "lastSeq": {"schema": {"type": "integer", "minimum": 0}, "required": True},
    "upToSeq": {"schema": {"type": "integer", "minimum": 0}, "required": True},
    "limit": {"schema": {"type": "integer", "minimum": 1}},
    "cursor": {"schema": {"type": "string"}},
    "order": {"schema": {"type": "string", "enum": ["id", "activity"], "default": "id"}},
    "user": {"schema": {"type": "string"}},
    "expires": {"schema": {"type": "integer"}},
    "bytes": {"schema": {"type": "integer"}},
    "type": {"schema": {"type": "string"}},
    "signature": {"schema": {"type": "string"}},
    "conversation": {"schema": {"type": "string"}},
    "actor": {"schema": {"type": "string"}},
    "action": {"schema": {"type": "string"}},
    "sinceMs": {"schema": {"type": "integer", "minimum": 0}},
    "after": {"schema": {"type": "integer", "minimum": 0}},
    "before": {"schema": {"type": "integer", "minimum": 1}},
    "users": {"schema": {"type": "string"}, "required": True},
    "conversationId": {"schema": {"type": "string"}, "required": True},
    "conversationId?": {"schema": {"type": "string"}},
    "senderId": {"schema": {"type": "string"}},
    "q": {"schema": {"type": "string", "maxLength": QUERY_MAX}, "required": True},
}


class Operation(msgspec.Struct, frozen=True):
    """One HTTP request of the contract.

    Attributes:
        method: HTTP method.
        path: Path with `{name}` parts.
        handler: What answers it.
        result: Struct of the answer's body; None for an empty one.
        body: Struct of the request's body, if it has one.
        query: Names of query parameters; with a question mark where it may be missing here and not elsewhere.
        status: Status of success.
        public: Whether it needs no token; then the handler takes the bare request.
    """

    method: str
    path: str
    handler: Callable[[Any], Awaitable[Any]]
    result: type | None
    body: type | None = None
    query: tuple[str, ...] = ()
    status: int = 200
    public: bool = False

    @property
    def operation_id(self) -> str:
        """A name for generated clients."""
        return self.handler.__name__.strip("_")


def openapi_document(operations: Sequence[Operation], prefix: str) -> bytes:
    """The document, as JSON.

    Args:
        operations: What there is.
        prefix: Path under which the app is mounted, empty for the root.
    """
    types = [kind for op in operations for kind in (op.body, op.result) if kind is not None]
    _, components = msgspec.json.schema_components(
        [*types, wire.Problem], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    document = {
        "openapi": "3.1.0",
        "info": {"title": "chatkit", "version": version("chatkit-engine")},
        "servers": [{"url": prefix or "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    return msgspec.json.encode(document)


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", operation.path)
            ),
            *({"name": name.rstrip("?"), "in": "query", **_QUERY[name]} for name in operation.query),
        ],
        "responses": {
            str(operation.status): _content("Success", operation.result, "application/json"),
            "default": _content("Refusal", wire.Problem, "application/problem+json"),
        },
    }
    if operation.public:
        described["security"] = []
    if operation.body is not None:
        described["requestBody"] = {"required": True, **_content("", operation.body, "application/json")}
        del described["requestBody"]["description"]
    return described


def _content(description: str, kind: type | None, media_type: str) -> dict[str, Any]:
    if kind is None:
        return {"description": description}
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"description": description, "content": {media_type: {"schema": schema}}}
