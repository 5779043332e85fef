"""Names of uploaded files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.pathology.slides import storage


@pytest.mark.parametrize(
    ("raw_name", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\a.SVS", "a.svs"),
        ("涂片 3.mrxs", "涂片_3.mrxs"),
        ("-rf.tif", "rf.tif"),
        (".svs", "svs"),
        ("a.b.ndpi", "a_b.ndpi"),
        ("a.exe;rm", "a_exe_rm"),
        ("\0", "slide"),
        ("", "slide"),
    ],
)
def test_sanitising_keeps_only_harmless_characters_of_a_name(raw_name, name):
    assert storage.sanitize_name(raw_name) == name


@given(st.text(max_size=300))
def test_a_sanitised_name_is_neither_a_path_nor_an_option(raw_name):
    name = storage.sanitize_name(raw_name)
    assert 0 < len(name) <= 70
    assert len(name.encode()) < 255
    assert not set(name) & set("/\\\0")
    assert name[0] not in ".-"
