"""The double of ``Params`` that takes notes agrees with ``Params`` itself."""

import inspect

from multidict import MultiDict

from ledger import ids
from server.openapi.recorder import Recorder, parameters
from server.params import Params


def read(params):
    """Ask once for each kind of parameter."""
    return {
        "text": params.text("a"),
        "needed": params.required_text("k"),
        "integer": params.integer("b", -1, 9, 5),
        "boolean": params.boolean("c"),
        "choice": params.choice("d", ("x", "y")),
        "many": params.many(("e", "f"), ("x", "y")),
        "time": params.time_us("g"),
        "as_of": params.point("as_of"),
        "id": params.id("h", lambda text: ids.parse(text, "job", "step")),
        "duration": params.duration_us("j", 60),
        "present": params.text("i") if "i" in params else None,
    }


def test_every_method_that_a_query_function_may_call_is_doubled():
    asked = [name for name, _ in inspect.getmembers(Params, inspect.isfunction) if not name.startswith("_")]
    assert [name for name in asked if name not in vars(Recorder)] == []
    for name in asked:
        assert inspect.signature(getattr(Params, name)) == inspect.signature(getattr(Recorder, name)), name


def test_the_double_answers_as_a_request_without_parameters():
    recorder = Recorder()
    assert read(recorder) == read(Params(MultiDict()))


def test_what_is_noted_is_the_schema_of_each_parameter():
    assert {each["name"]: each["schema"] for each in parameters(read)} == {
        "a": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\x00]*$"},
        "as_of": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "format": "date-time"}]},
        "b": {"type": "integer", "minimum": -1, "maximum": 9, "default": 5},
        "c": {"type": "boolean"},
        "d": {"type": "string", "enum": ["x", "y"]},
        "e": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
        "f": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
        "g": {"type": "string", "format": "date-time"},
        "h": {"type": "string", "pattern": ids.pattern("job", "step")},
        "i": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\x00]*$"},
        "j": {"type": "number", "exclusiveMinimum": 0, "maximum": 60},
        "k": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\x00]*$"},
    }


def test_what_must_be_given_is_noted_as_such():
    noted = parameters(lambda params: (params.required_id("a", ids.parse), params.required_integer("b", 0, 9)))
    assert [(each["name"], each["required"]) for each in noted] == [("a", True), ("b", True)]


def test_a_route_without_a_query_function_has_no_parameters():
    assert parameters(None) == []
