"""The words of a slide that must not be in its copy, and their bytes in every encoding.

Words come from the texts of the original that are not retained, from the request form and from file names. A word is
searched for unless the copy may hold it by design: a number, a word of the container's vocabulary.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import permutations

MIN_NEEDLE_BYTES = 6  # shorter ones occur by chance in the binary tables of a large file
MAX_PHRASE, MAX_TOKEN = 120, 64  # characters
MAX_WORDS = 20_000
MAX_MIXED_BYTES = 1 << 16  # of a value that mixes texts and numbers

# words that a copy of any format may hold, or that a reader shows of itself
COMMON_WORDS = frozenset(
    [
        *(
            "jfif",
            "adobe",
            "exif",
            "icc",
            "profile",
            "colour",
            "srgb",
            "slide",
            "simulated",
            "image",
            "images",
            "pixels",
        ),
        *("unknown", "inch", "centimeter", "aperio", "dicom", "generic", "tiff", "hamamatsu", "leica", "mirax"),
        *("philips", "sakura", "trestle", "ventana", "zeiss", "kfbio"),
    ]
)
_SEPARATORS = re.compile(r"[\r\n\t|;\\=\0]+|(?<=\D)[:：](?=\D)|,\s")
_MARKUP_VALUES = re.compile(r'"([^"<>]{2,4000})"|>([^<>]{2,4000})<')
_JOINED = re.compile(r"[^\W_]+(?:[-_.:/^][^\W_]+)*")
_TOKENS = re.compile(r"[^\W_]+")
_IDEOGRAPHS = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]{2,}")
_NUMBER = re.compile(r"[-+]?[\d.,]+(?:e[-+]?\d+)?%?", re.ASCII | re.IGNORECASE)
_DIMENSIONS = re.compile(r"\d+x\d+(?:x\d+)?", re.ASCII | re.IGNORECASE)
_MEASURE = re.compile(r"v?\d{1,4}[a-z]{0,2}|0x[0-9a-f]{1,8}", re.ASCII | re.IGNORECASE)
_STANDARD_UID = re.compile(r"1\.2\.840\.10008\.[\d.]+", re.ASCII)
_UID = re.compile(r"\d+(?:\.\d+){3,}", re.ASCII)
_PSEUDONYM = re.compile(r"P[0-9A-F]{15}|(?=\d*[A-F])[0-9A-F]{32}", re.ASCII)  # pseudonyms.py
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{8,4096}={0,2}")
_EXIF_CODES = (b"ASCII\0\0\0", b"UNICODE\0", b"JIS\0\0\0\0\0", bytes(8))  # of a UserComment
_CONTROLS = re.compile(rb"[\0-\x1f\x7f]+")
_ASCII_RUN = re.compile(rb"[\x20-\x7e]{4,}")
_UTF16_LE_RUN = re.compile(rb"(?:[\x20-\x7e]\0){3,}")
_UTF16_BE_RUN = re.compile(rb"(?:\0[\x20-\x7e]){3,}")


def derive_words(texts: Iterable[bytes], known: Iterable[str], vocabulary: frozenset[str]) -> set[str]:
    """The words and phrases to search for. known: from the request form and the names of files and folders.

    At most MAX_WORDS + 1 are returned. vocabulary: in small letters.
    """
    vocabulary = vocabulary | COMMON_WORDS
    known = [text.strip() for text in known]
    # a number of the form is no measure, however short
    words = {text for text in known if text.isdigit() and len(text) >= MIN_NEEDLE_BYTES}
    for text in _all_texts(texts, known):
        for word in _phrases(text):
            if is_identifying(word, vocabulary):
                words.add(word)
            if len(words) > MAX_WORDS:
                return words
    return words


def is_identifying(phrase: str, vocabulary: frozenset[str]) -> bool:
    """Whether any token of a phrase may identify somebody: no number, and no word of the vocabulary."""
    if _NUMBER.fullmatch(phrase) or _UID.fullmatch(phrase):
        return phrase not in vocabulary and _is_identifying_number(phrase)
    tokens = _TOKENS.findall(phrase)
    if any(_is_identifying_token(token, vocabulary) for token in tokens):
        return True
    words = [_stem(token) for token in tokens if not token.isdigit()]
    is_numbered_word = bool(words) and sum(map(str.isdigit, phrase)) < 6 and all(word in vocabulary for word in words)
    return _is_code(phrase) and not is_numbered_word


def unknown_words(text: str, vocabulary: frozenset[str]) -> list[str]:
    """The words of a copy's text that are not in the vocabulary; numbers of up to 7 digits and UIDs are no words."""
    vocabulary = vocabulary | COMMON_WORDS
    unknown: list[str] = []
    for joined in re.findall(r"[^\s|;=\\,\"'<>()\[\]]+", text):
        if _NUMBER.fullmatch(joined) or _UID.fullmatch(joined):
            if joined not in vocabulary and _is_identifying_number(joined) and not joined.startswith("2.25."):
                unknown.append(joined)
            continue
        if _PSEUDONYM.fullmatch(joined):
            continue
        for token in _TOKENS.findall(joined):
            if token.isdigit():
                unknown += [token] if _is_long_number(token) and token not in vocabulary else []
            elif _stem(token) not in vocabulary and token.casefold() not in vocabulary and not _is_measure(token):
                unknown.append(token)
    return unknown


def needles(word: str, vocabulary: frozenset[str]) -> Iterator[tuple[bytes, bool]]:
    """(bytes, whether case is ignored) of a word in every encoding, also of parts joined otherwise."""
    vocabulary = vocabulary | COMMON_WORDS
    for variant in _variants(word):
        encodings = {variant.encode("utf-8", "ignore"), variant.encode("utf-16-le", "surrogatepass")}
        encodings.add(variant.encode("utf-16-be", "surrogatepass"))
        for encoding in ("gb18030", "latin-1", "big5"):
            try:
                encodings.add(variant.encode(encoding))
            except UnicodeEncodeError:
                continue  # it cannot stand in a text of this encoding
        for encoded in encodings:
            # UTF-16 that was none reads as a word that the copy may hold
            if len(encoded) >= MIN_NEEDLE_BYTES and (variant.isascii() or not _is_vocabulary(encoded, vocabulary)):
                yield encoded, True
        for encoded in {variant.encode("utf-8", "ignore"), variant.encode("gb18030", "ignore")}:
            for shifted in _base64_needles(encoded):
                if len(shifted) >= MIN_NEEDLE_BYTES:
                    yield shifted, False


def decode_text(raw: bytes) -> list[str]:
    """What the bytes of a text may say; all readings that are possible."""
    for code in _EXIF_CODES:
        if raw.startswith(code) and len(raw) > len(code):
            raw = raw[len(code) :]
    stripped = raw.strip(b"\0")
    decoded = []
    try:
        text = stripped.decode("utf-8").replace("\0", "\n")
        if _is_readable(text):
            decoded.append(text)
    except UnicodeDecodeError:
        text = ""
    # zeros are of UTF-16, or end it
    if decoded and text.isascii() and b"\0" not in stripped and not raw.endswith(b"\0\0"):
        return decoded
    for encoding in ("utf-16-le", "utf-16-be", "gb18030", "latin-1"):
        source = raw[: len(raw) & ~1] if encoding.startswith("utf-16") else stripped
        try:
            text = source.decode(encoding).strip("\0\ufeff")
        except UnicodeDecodeError:
            continue
        if text and _is_readable(text):
            decoded.append(text)
    if not decoded or b"\0" in stripped:
        decoded += [run.decode("ascii") for run in _ASCII_RUN.findall(raw)]
        decoded += [run.decode("utf-16-le") for run in _UTF16_LE_RUN.findall(raw)]
        decoded += [run.decode("utf-16-be") for run in _UTF16_BE_RUN.findall(raw)]
        if len(raw) <= MAX_MIXED_BYTES:
            decoded += [text for piece in _CONTROLS.split(raw) if len(piece) >= 4 for text in _decode_piece(piece)]
    return decoded


def _decode_piece(piece: bytes) -> list[str]:
    for encoding in ("utf-8", "gb18030"):
        try:
            text = piece.decode(encoding)
        except UnicodeDecodeError:
            continue
        return [text] if _is_readable(text) else []
    return []


def _all_texts(texts: Iterable[bytes], known: Iterable[str]) -> Iterator[str]:
    for raw in texts:
        yield from decode_text(raw)
        for encoded in _BASE64.findall(raw):
            try:
                decoded = base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=True).decode("utf-8")
            except ValueError:
                continue  # letters and digits that are no base64, or no text
            if len(decoded) >= 4 and _is_readable(decoded):
                yield decoded
    yield from known


def _phrases(text: str) -> Iterator[str]:
    values = [text]
    if "<" in text:
        values += [value for pair in _MARKUP_VALUES.findall(text) for value in pair if value]
    for value in values:
        value = html.unescape(value)
        for phrase in (value, *_SEPARATORS.split(value), *_ideographs(value)):
            phrase = phrase.strip(" \0^'\"")
            if 2 <= len(phrase) <= MAX_PHRASE and "<" not in phrase:
                yield phrase
        for joined in _JOINED.findall(value):
            for token in {joined, *_TOKENS.findall(joined)}:
                # of long ones, such as an image in base64, a piece of the middle
                middle = len(token) // 2
                yield token if len(token) <= MAX_TOKEN else token[middle - MAX_TOKEN // 2 : middle + MAX_TOKEN // 2]


def _ideographs(text: str) -> Iterator[str]:
    """Chinese words are not separated; a name has two to four characters."""
    for run in _IDEOGRAPHS.findall(text):
        yield run
        if 3 < len(run) <= 16:
            yield from (run[start : start + 3] for start in range(len(run) - 2))


def _is_identifying_token(token: str, vocabulary: frozenset[str]) -> bool:
    stem = _stem(token)
    if token.isdigit():
        return token not in vocabulary and _is_long_number(token)
    if not token.isascii():
        return len(token) >= 2
    return len(token) >= 4 and not _is_measure(token) and not any(stem in word for word in vocabulary)


def _is_vocabulary(encoded: bytes, vocabulary: frozenset[str]) -> bool:
    tokens = _TOKENS.findall(encoded.decode("ascii")) if encoded.isascii() else []
    return bool(tokens) and all(
        len(token) >= 4 and any(_stem(token) in word for word in vocabulary) for token in tokens
    )


def _is_identifying_number(number: str) -> bool:
    """Dates and ids have 8 digits or more, fractions and versions are no ids, UIDs of the standard are no secret."""
    if "." in number and not _UID.fullmatch(number):
        return False
    digits = re.sub(r"\D", "", number)
    return _is_long_number(digits) and not _STANDARD_UID.fullmatch(number)


def _is_long_number(digits: str) -> bool:
    """8 digits or more, but no colour (up to 0xffffff, which is before any year of a date) and no row of one digit."""
    return len(digits) >= 8 and len(set(digits)) > 1 and int(digits[:20]) > 0xFFFFFF


def _stem(token: str) -> str:
    """In small letters and without a number of up to four digits at its end."""
    return re.sub(r"(?<=[a-z])\d{1,4}$", "", token.casefold())


def _is_measure(token: str) -> bool:
    """20x, 0x1f, 256x256, v11: a number with a unit or a sign."""
    return bool(
        _DIMENSIONS.fullmatch(token) or re.fullmatch(r"v?\d{1,4}[a-z]{0,2}|0x[0-9a-f]{1,8}", token, re.I | re.A)
    )


def _is_code(phrase: str) -> bool:
    """A date, a time or a number of a case: digits with separators or letters between them."""
    if _DIMENSIONS.fullmatch(phrase) or not re.fullmatch(r"[\w:/.^-]+(?: [\d:.]+)?", phrase):
        return False
    digits = re.sub(r"\D", "", phrase)
    has_letters = any(map(str.isalpha, phrase))
    return (
        len(set(digits)) > 1
        and len(digits) >= 6
        or (has_letters and "-" in phrase and len(digits) >= 1 and len(phrase) >= 5)
    )


def _is_readable(text: str) -> bool:
    return all(character.isprintable() or character in "\r\n\t" for character in text)


def _variants(word: str) -> set[str]:
    spellings = {word, *(unicodedata.normalize(form, word) for form in ("NFC", "NFD"))}
    if not word.isascii():
        spellings |= {word.lower(), word.upper()}
    parts = re.split(r"[\s^,_]+", word)
    if 2 <= len(parts) <= 3 and len(word) <= 40 and all(token.isalpha() for token in parts):
        for order in permutations(parts):
            spellings |= {separator.join(order) for separator in ("^", " ", "", "_", "-", ".", ",", ", ")}
    return spellings


def _base64_needles(content: bytes) -> Iterator[bytes]:
    """Its base64 wherever it stands in a longer text: only the letters that its neighbours do not change."""
    for shift, first in ((0, 0), (1, 2), (2, 3)):
        total = shift + len(content)
        encoded = base64.b64encode(bytes(shift) + content)
        yield encoded[first : total * 8 // 6]
