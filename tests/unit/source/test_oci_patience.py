"""How long registries may ask to be left alone."""

from __future__ import annotations

import pytest

from headrace.source.oci.transport import retry_after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        *(("120", 120.0), (" 7 ", 7.0), ("3600", 3600.0)),
        *(("3601", 3600.0), ("172800", 3600.0), ("9" * 400, 3600.0)),
        *(("", None), ("0", None), ("-1", None), ("1.5", None), ("\u00b2", None)),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_registry_is_left_alone_for_as_long_as_it_asks_but_never_for_more_than_an_hour(
    header: str, seconds: float | None
) -> None:
    assert retry_after(header) == seconds
