"""From Structs to structural OpenAPI v3 schemas, as CustomResourceDefinitions need them.

Everything is written out in place (no references). Docstrings of classes and fields become descriptions: they are
read from the source, which happens only when CRDs are generated.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect as types

from headrace.api.validation import Rule, Validation
from headrace.model.objects import Metadata

Schema = dict[str, Any]

PLAIN: dict[type, Schema] = {
    types.StrType: {"type": "string"},
    types.BoolType: {"type": "boolean"},
    types.IntType: {"type": "integer", "format": "int64"},
    types.RawType: {"x-kubernetes-preserve-unknown-fields": True},
}


def struct_schema(struct: type) -> Schema:
    """The schema of a Struct: an object with its fields; those without a default are required."""
    fields: tuple[types.Field, ...] = types.type_info(struct).fields  # type: ignore[attr-defined]
    hints = get_type_hints(struct, include_extras=True)
    described = _field_docs(struct)
    properties = {
        field.encode_name: _described(_value_schema(field.type, hints[field.name]), described.get(field.name, ""))
        for field in fields
    }
    schema: Schema = {"type": "object", "properties": dict(sorted(properties.items()))}
    if required := sorted(field.encode_name for field in fields if field.required):
        schema["required"] = required
    rules: tuple[Rule, ...] = getattr(struct, "rules", ())
    if rules:
        schema["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return _described(schema, inspect.cleandoc(struct.__doc__ or ""))


def _value_schema(type_: types.Type, hint: object) -> Schema:
    """The schema of a value: by its type, and by the Validation marks beside it in the annotation."""
    validations, inner_hint = _unwrap(hint)
    if isinstance(type_, types.UnionType):
        type_ = next(member for member in type_.types if not isinstance(member, types.NoneType))
    schema = _bare_schema(type_, inner_hint)
    for validation in validations:
        schema |= _constraints(validation)
    return schema


def _bare_schema(type_: types.Type, hint: object) -> Schema:
    match type_:
        case types.StructType(cls=cls):
            return {"type": "object"} if cls is Metadata else struct_schema(cls)
        case types.VarTupleType(item_type=item):
            return {"type": "array", "items": _value_schema(item, _argument(hint, 0))}
        case types.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _value_schema(value, _argument(hint, 1))}
    return dict(PLAIN[type(type_)])


def _unwrap(hint: object) -> tuple[list[Validation], object]:
    """Collects the Validation marks of (nested) Annotated and takes `| None` off."""
    validations: list[Validation] = []
    while True:
        marks: tuple[object, ...] = getattr(hint, "__metadata__", ())
        validations[:0] = [mark for mark in marks if isinstance(mark, Validation)]
        if marks:
            hint = hint.__origin__  # type: ignore[attr-defined]
        elif type(None) in getattr(hint, "__args__", ()):
            hint = next(arg for arg in hint.__args__ if arg is not type(None))  # type: ignore[attr-defined]
        else:
            return validations, hint


def _argument(hint: object, index: int) -> object:
    return getattr(hint, "__args__", (object, object))[index]


def _constraints(validation: Validation) -> Schema:
    given = {
        "pattern": validation.pattern or None,
        "enum": list(validation.enum) or None,
        "minLength": validation.min_length,
        "maxLength": validation.max_length,
        "minimum": validation.minimum,
        "minItems": validation.min_items,
        "maxItems": validation.max_items,
        "format": validation.format or None,
        "nullable": validation.nullable or None,
    }
    schema: Schema = {name: value for name, value in given.items() if value is not None}
    if validation.default is not msgspec.UNSET:
        schema["default"] = validation.default
    return schema


def _described(schema: Schema, description: str) -> Schema:
    """The description of the field wins over that of its type."""
    return {"description": description} | {k: v for k, v in schema.items() if k != "description"} if description \
        else schema


@cache
def _field_docs(struct: type) -> dict[str, str]:
    """Field name -> the string literal that stands below the field in the source, base classes included."""
    docs: dict[str, str] = {}
    for cls in reversed(struct.__mro__):
        if issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct:
            docs |= _own_field_docs(cls)
    return docs


def _own_field_docs(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str() as text)):
                docs[name] = " ".join(text.split())
    return docs
