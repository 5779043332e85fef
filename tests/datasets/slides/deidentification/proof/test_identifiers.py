"""The words to search for: every name in every encoding, and no word that a copy may hold."""

import base64
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets.slides.deidentification.deidentify import CONTAINERS
from datasets.slides.deidentification.proof.identifiers import derive_words, needles, unknown_words
from datasets.slides.deidentification.proof.search import BLOCK_BYTES, Ranges, WordSearch

VOCABULARY = frozenset(["aperio", "library", "appmag"])
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "gb18030")
NAMES = st.one_of(
    st.sampled_from(
        ["TEST PATIENT", "王小明", "欧阳娜娜", "Müller Jürgen", "S26-00001", "330281196103045519", "19610304"]
    ),
    st.text(st.sampled_from("王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗"), min_size=3, max_size=4),
    st.from_regex(r"[A-Z][a-z]{5,9}( [A-Z][a-z]{2,8})?", fullmatch=True),
)


def search_for(*texts, known=()):
    words = derive_words([text if isinstance(text, bytes) else text.encode() for text in texts], known, VOCABULARY)
    return WordSearch(needle for word in words for needle in needles(word, VOCABULARY))


@settings(max_examples=80, deadline=None)
@given(NAMES, st.sampled_from(ENCODINGS), st.sampled_from(ENCODINGS), st.sampled_from([str, str.upper, str.lower]))
def test_a_name_in_one_encoding_is_found_in_every_other(name, stored, copied, case):
    assume(name.isascii() or not name.encode(stored).isascii())  # such as UOUOUO, which is Chinese in UTF-16
    search = search_for(name.encode(stored))
    assert search.matches(b"\xff\x00" + case(name).encode(copied) + b"\x00")
    assert not search.matches(b"Aperio Image Library v11.2.1 AppMag = 20 JFIF 0.4990")


@settings(max_examples=40, deadline=None)
@given(NAMES, st.binary(max_size=5), st.binary(max_size=5))
def test_a_name_within_base64_is_found(name, before, after):
    assert search_for(name).matches(base64.b64encode(before + name.encode() + after))


@pytest.mark.parametrize(
    "text",
    [
        "Patient = TEST PATIENT|ID = 7",
        '<iScan Barcode1D="TEST PATIENT" MPP="0.25"/>',
        "<name>TEST PATIENT</name>",
        base64.b64encode(b"TEST PATIENT").decode(),
        b"ASCII\0\0\0TEST PATIENT",
        b"UNICODE\0" + "TEST PATIENT".encode("utf-16-le"),
        b"\x01\x02TEST PATIENT\0\0\x03",
        b"II*\0\xfe\xff" + "TEST PATIENT".encode("utf-16-le") + b"\xfe",
    ],
)
def test_a_name_is_found_in_whatever_surrounds_it(text):
    for copied in (b"TEST PATIENT", b"Test^Patient", b"patient_test", "TestPatient".encode("utf-16-le")):
        assert search_for(text).matches(copied)


def test_dates_ids_and_uids_are_searched_for_and_numbers_are_not():
    def words(text):
        return derive_words([text], (), VOCABULARY)

    assert words(b"19610304") == {"19610304"}
    assert words(b"330281196103045519") == {"330281196103045519"}
    assert words(b"12/29/09") == {"12/29/09"}
    assert words(b"1.3.6.1.4.1.36533.116129230")
    for number in (b"0.4990", b"46920", b"46920x33014", b"20x", b"16777215", b"00000000", b"1.2.840.10008.1.2.4.50"):
        assert not words(number), number
    assert not words(b"Aperio Library") | words(b"AppMag = 20") | words(b"slide-0001")
    assert words(b"S26-001")


def test_words_of_the_form_and_of_file_names_are_searched_for():
    search = search_for(known=["ACC-77001", "Zhang_Wei", "260417"])
    assert search.matches(b"\x00260417\x00")
    assert search.matches(b"acc-77001")
    assert search.matches(b"zhang wei")


def test_a_text_of_a_copy_has_known_words_only():
    for text in ("AppMag = 20|", "Aperio 0.499", "2.25.329800735698586629295641978511506172918", "P0123456789ABCDE"):
        assert not unknown_words(text, VOCABULARY), text
    for text in ("Aperio Lee", "王", "Li", "19610304", "1.3.6.1.4.1.36533.116129230", "330281196103045519"):
        assert unknown_words(text, VOCABULARY), text


def test_no_word_is_missed_where_two_blocks_meet(tmp_path):
    search = search_for("TEST PATIENT")
    for shift in range(14):
        (tmp_path / "a").write_bytes(bytes(BLOCK_BYTES - shift) + b"Test Patient" + bytes(9))
        assert search.find(tmp_path / "a", Ranges()) == BLOCK_BYTES - shift


def test_in_compressed_pixels_only_long_words_count(tmp_path):
    tiles = Ranges()
    tiles.add(100, 50)
    tiles.add(10, 50)
    tiles.sort()
    (tmp_path / "a").write_bytes(bytes(20) + b"patient" + bytes(200))
    assert search_for("patient").find(tmp_path / "a", tiles) is None
    assert search_for("patient").find(tmp_path / "a", Ranges()) == 20
    (tmp_path / "a").write_bytes(bytes(120) + b"patients" + bytes(200))
    assert search_for("patients").find(tmp_path / "a", tiles) == 120


def test_every_container_lists_its_words_in_small_letters():
    for name, container in CONTAINERS.items():
        for word in container.words or ():
            assert re.fullmatch(r"[a-z0-9]+", word), (name, word)
