"""XML from outside: a small document becomes elements, and nothing in it can refer to anything else.

A document type is refused before anything of it is read: it is where entities, and with them files, addresses and
expansion bombs come from.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


class XmlRefused(ValueError):
    """No XML, or XML with a document type."""


def parse_xml(data: bytes) -> Element:
    """The root element, names without their namespaces. Raises XmlRefused."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: builder.start(name.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda name: builder.end(name.rpartition(":")[2])
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.buffer_text = True
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise XmlRefused(f"the answer is no XML: {error}") from None


def text_at(element: Element, path: str) -> str:
    """The text of the first element at `path`, empty when there is none."""
    return (element.findtext(path) or "").strip()


def _refuse(*_: object) -> None:
    raise XmlRefused("the answer has a document type, which is refused")
