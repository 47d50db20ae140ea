"""The API's own document: valid, complete, and true of what is decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route
from tests.api.conftest import Door, Doors
from tests.support.scripted import MODEL, ScriptedBackend, ScriptedText

from atoll.api.app import create_app
from atoll.api.backend import ModelCard, StatusSource
from atoll.api.keys import KeyStore
from atoll.api.limits import Limits
from atoll.api.openapi import PATH, document
from atoll.api.schema import REFUSED, REFUSED_IN_MESSAGE, decode_chat, decode_completion

CARD = ModelCard("tide/tide-1b", 1, 1024, 49152)
METHODS = {"get", "post"}


class Rings(msgspec.Struct):
    """A status."""

    rings: tuple[int, ...] = ()


@pytest.fixture
def whole() -> dict[str, Any]:
    return document(CARD, Limits(messages_max=7), status=Rings)


def fields_of(whole: dict[str, Any], name: str) -> dict[str, Any]:
    fields: dict[str, Any] = whole["components"]["schemas"][name]["properties"]
    return fields


@pytest.mark.parametrize("status", [None, Rings])
def test_document_is_valid(status: type[msgspec.Struct] | None) -> None:
    validate(document(CARD, Limits(), status=status))


@pytest.mark.parametrize("has_status", [False, True])
def test_every_route_is_in_the_document(tmp_path: Path, has_status: bool) -> None:
    source = StatusSource(Rings, Rings) if has_status else None
    keys = KeyStore(tmp_path / "keys.json")
    app = create_app(ScriptedBackend(), ScriptedText(), keys=keys, status=source)
    routes = {
        (re.sub(r":path\}", "}", route.path), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    told = document(CARD, Limits(), status=Rings if has_status else None)["paths"]
    asked = {(path, method) for path, item in told.items() for method in METHODS & item.keys()}
    assert {route for route in routes if route[1] != "head"} == asked


async def test_those_with_a_key_get_it(doors: Doors) -> None:
    door = await doors.open()
    answer = await door.http.get(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == document(door.backend.card, Limits())
    refused = await door.http.get(PATH, headers={"authorization": ""})
    assert refused.status_code == 401


def test_it_names_the_model_and_the_limits(whole: dict[str, Any]) -> None:
    chat = fields_of(whole, "ChatRequest")
    assert chat["model"]["enum"] == [CARD.name]
    assert chat["messages"]["maxItems"] == 7
    assert chat["max_tokens"]["anyOf"][0]["maximum"] == CARD.context - 1


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_values_it_allows_for_fields_not_served_are_accepted(
    whole: dict[str, Any], name: str
) -> None:
    decoders = {"ChatRequest": decode_chat, "CompletionRequest": decode_completion}
    base = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "prompt": "a"}
    seen = 0
    for kind, decode in decoders.items():
        fields = fields_of(whole, kind)
        for value in fields.get(name, {}).get("enum", ()):
            body = {key: held for key, held in base.items() if key in fields} | {name: value}
            decode(msgspec.json.encode(body))
            seen += 1
    assert seen >= 1


@pytest.mark.parametrize("name", sorted(REFUSED_IN_MESSAGE))
def test_values_it_allows_in_messages_are_accepted(whole: dict[str, Any], name: str) -> None:
    for value in fields_of(whole, "Message")[name]["enum"]:
        message = {"role": "user", "content": "a", name: value}
        decode_chat(msgspec.json.encode({"model": MODEL, "messages": [message]}))


async def test_answers_have_the_form_it_tells(door: Door) -> None:
    told = document(door.backend.card, Limits())
    for answer in (await door.chat(n=2), await door.complete(logprobs=1), await door.chat(n=99)):
        body = answer.json()
        path, status = answer.request.url.path, str(answer.status_code)
        content = told["paths"][path]["post"]["responses"][status]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = told["components"]["schemas"][name]
        assert set(schema["required"]) <= body.keys() <= schema["properties"].keys()
