"""What a decoder that was taken over says about a slide is refused, unless a slide can be so."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.slides import reader
from datasets.slides.decoding import answers
from datasets.slides.decoding.answers import InvalidAnswerError, RefusedError
from datasets.slides.limits import SLIDE_LIMITS
from tests.datasets.slides.slide_files import CMU

with reader.open_slide(CMU) as slide:
    METADATA = slide.metadata
ANSWER = json.loads(json.dumps(asdict(METADATA)))
LEVEL = ANSWER["levels"][0]
ISSUE = {"code": "empty", "en": "it is empty", "zh": "文件为空"}


def test_what_the_reader_says_passes():
    assert answers.parse_metadata(ANSWER, SLIDE_LIMITS) == METADATA


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("levels", []),
        ("levels", [LEVEL] * 1_000),
        ("levels", [LEVEL | {"width": 0}]),
        ("levels", [LEVEL | {"width": -1}]),
        ("levels", [LEVEL | {"width": 10**12}]),
        ("levels", [LEVEL | {"width": 900_000, "height": 900_000}]),
        ("levels", [LEVEL | {"width": 1.5}]),
        ("levels", [LEVEL | {"width": "100"}]),
        ("levels", [LEVEL | {"downsample": 0.0}]),
        ("levels", [LEVEL | {"downsample": 1e300}]),
        ("levels", [LEVEL, LEVEL | {"width": 5 * LEVEL["width"]}]),
        ("levels", [{"width": 1}]),
        ("levels", "levels"),
        ("mpp", [0.0, 0.0]),
        ("mpp", [0.5]),
        ("mpp", [1e9, 1e9]),
        ("mpp", None),  # though mpp_from says where it is from
        ("mpp_from", "the attacker"),
        ("stated", [-1.0, 1.0]),
        ("format", "<script>"),
        ("format", "x" * 10_000),
        ("format", 5),
        ("background", [0, 0, 256]),
        ("background", [0, 0]),
        ("notes", ["<b>"]),
        ("notes", ["note"] * 1_000),
        ("planes", 0),
        ("planes", 10**9),
        ("plane_spacing", -1.0),
        ("icc", "yes"),
        ("scales", [{"source": "x" * 100_000, "x": 1.0, "y": 1.0}]),
        ("scales", [{"source": "x", "x": 0.0, "y": 1.0}]),
    ],
)
def test_impossible_metadata_is_refused(name, value):
    with pytest.raises(InvalidAnswerError):
        answers.parse_metadata(ANSWER | {name: value}, SLIDE_LIMITS)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"ok", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000,
        b'{"refused": null}', b'{"refused": null, "answer": null}', b'{"refused": [], "answer": null}',
        b'{"refused": [{}], "answer": null}', b'{"refused": 1, "answer": {}}',
        b'{"refused": [{"code": "mine", "en": "a", "zh": "b"}], "answer": null}',
        b'{"refused": null, "answer": {"x": NaN}}', b'{"refused": null, "answer": {}, "more": 1}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_answer_is_refused(line):
    with pytest.raises(InvalidAnswerError):
        answers.parse_answer(line)


def test_a_reason_cannot_steer_a_terminal_or_fill_a_log():
    line = json.dumps({"refused": [ISSUE | {"en": "\x1b[2J" + "x" * 10**6}], "answer": None}).encode()
    with pytest.raises(RefusedError) as refused:
        answers.parse_answer(line)
    [issue] = refused.value.issues
    assert "\x1b" not in issue.en
    assert len(issue.en) <= answers.MAX_TEXT_CHARS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ANSWER, "width"]), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([*ANSWER]), JSON)
def test_any_value_in_any_place_is_refused_or_within_the_limits(name, value):
    try:
        metadata = answers.parse_metadata(ANSWER | {name: value}, SLIDE_LIMITS)
    except InvalidAnswerError:
        return
    assert all(1 <= side <= SLIDE_LIMITS.side for level in metadata.levels for side in (level.width, level.height))
    assert metadata.planes >= 1


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_refused(line):
    try:
        answers.parse_answer(line)
    except (InvalidAnswerError, RefusedError):
        return
