"""A copy of a DICOM slide holds its pixels bit for bit and no text of the original, wherever that stood."""

import io
import struct
import tracemalloc

import numpy as np
import openslide
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as profile
from PIL import Image, ImageCms
from pydicom import DataElement, Dataset, config, datadict, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from datasets.slides.deidentification.codestream import clean_j2k, clean_jpeg
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.deidentification.dicom.clean import clean_dicom, tile_ranges
from datasets.slides.errors import SlideError
from datasets.slides.formats.dicom import tags
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.reader import open_slide
from datasets.slides.static_check import check_slide
from tests.datasets.slides.decoding.test_dicom import concatenation, two_paths
from tests.datasets.slides.dicom_files import CODECS, image
from tests.datasets.slides.slide_files import painted

KEY, PIXELS = bytes(range(32)), painted(200, 150)
NAME, DATE, NUMBER = "Zhang^San", "19610304", "330281196"
PLANTED_UID = "1.2.826.330281.19610304"
SECRETS = [secret.encode() for secret in (NAME, "Zhang", DATE, NUMBER, PLANTED_UID, "330281")]
PLANTED = {
    **dict.fromkeys(("LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR", "AE"), NAME),
    **dict.fromkeys(("DA",), DATE),
    "DT": f"{DATE}101112",
    "TM": f"{DATE[:6]}",
    "CS": "ZHANG SAN",
    "AS": "064Y",
    "UI": PLANTED_UID,
    "IS": NUMBER,
    "DS": f"{DATE}.5",
    **dict.fromkeys(("OB", "OW", "UN", "OD", "OF", "OL", "OV"), b"Zhang^San by the bytes  "),
    "AT": 0x00100010,
}
BINARY = {"US": "<H", "SS": "<h", "UL": "<I", "SL": "<i", "FL": "<f", "FD": "<d", "SV": "<q", "UV": "<Q"}
SECRET_NUMBER = b"Zhang^Sa"  # as the bytes of a binary number, as far as they fit


@pytest.fixture(autouse=True)
def _no_validation(monkeypatch):
    """Values need not fit their representation."""
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    monkeypatch.setattr(config, "replace_un_with_known_vr", False)
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)


def clean(path, folder):
    """The copy, after its proof."""
    folder.mkdir()
    return deidentify_slide(path, folder, key=KEY).path


def pixels_of(path):
    with open_slide(path) as slide:
        return slide.read(0, 0, slide.metadata.size)


def planted_value(vr):
    if vr in BINARY:
        return struct.unpack(BINARY[vr], SECRET_NUMBER[: struct.calcsize(BINARY[vr])])[0]
    return PLANTED[vr]


def planted_tags():
    """Every attribute of the standard that need not be right for the slide to be read, and the profile's own list."""
    profile_tags = {Tag(tag) for tag in profile.ALL_TAGS if len(tag) == 2}
    listed = {Tag(tag) for tag in datadict.DicomDictionary} | profile_tags
    required = {*tags.HEADER, 0x7FE00010}
    assert len(profile_tags - {Tag(tag) for tag in required}) > 500
    return sorted(tag for tag in listed if tag not in required and tag.group > 6 and tag.group < 0x7FE0 and tag.element)


def plant(data, nested=True):
    """A name, a date or a UID in every attribute, and in every sequence an item with all others."""
    content = Dataset()
    for tag in planted_tags():
        vr = datadict.dictionary_VR(tag) if tag in datadict.DicomDictionary else "LO"
        vr = vr.split(" ")[0]
        if vr == "SQ" or vr not in PLANTED | BINARY:
            continue
        content.add_new(tag, vr, planted_value(vr))
    for element in content:
        if element.tag not in data:
            data.add(element)
    if nested:
        for tag in planted_tags():
            if datadict.dictionary_VR(tag) == "SQ" if tag in datadict.DicomDictionary else False:
                data.add_new(tag, "SQ", Sequence([small_item()]))
    return len(content)


def small_item():
    inner, item = Dataset(), Dataset()
    for each in (inner, item):
        each.PatientName, each.PatientID, each.StudyDate, each.UID = NAME, NUMBER, DATE, PLANTED_UID
        each.CodeValue, each.CodingSchemeDesignator, each.CodeMeaning = NUMBER, "SCT", NAME
        each.TextValue, each.ValueType, each.OpticalPathDescription = NAME, "TEXT", NAME
        each.add_new(0x00990010, "LO", "ZHANG SAN")
        each.add_new(0x00991001, "UN", NAME.encode() + b" ")
    item.ConceptNameCodeSequence, item.ConceptCodeSequence = Sequence([inner]), Sequence([inner])
    item.OtherPatientIDsSequence = Sequence([inner])
    return item


def plant_everywhere(path, syntax=None):
    data = dcmread(path)
    count = plant(data)
    for sequence in (data.SharedFunctionalGroupsSequence, data.OpticalPathSequence):
        for element in small_item():
            if element.tag not in sequence[0]:
                sequence[0].add(element)
    # ImageType and its like are needed, and may still name somebody
    data.ImageType = [*data.ImageType[:3], "ZHANG SAN"]
    data.add_new(0x00990010, "LO", "ZHANG SAN")
    data.add_new(0x00991001, "SQ", Sequence([small_item()]))
    data.add_new(0x50000010, "LO", NAME)  # curves and overlays repeat in groups
    data.add_new(0x60023000, "OW", NAME.encode() + b" ")
    data.add_new(0x60024000, "LT", NAME)
    data.add_new(0xFFFCFFFC, "OB", NAME.encode() + b" ")
    data.preamble = NAME.encode().ljust(128, b"\0")
    data.file_meta.SourceApplicationEntityTitle = "ZHANG SAN"
    data.file_meta.ImplementationVersionName = "ZHANG SAN"
    data.file_meta.PrivateInformationCreatorUID, data.file_meta.PrivateInformation = UID(PLANTED_UID), NAME.encode()
    if syntax:
        data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=False, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return count


def survivors(folder):
    remains = []
    for path in folder.iterdir():
        content = path.read_bytes()
        for secret in (*SECRETS, b"ZHANG SAN", SECRET_NUMBER, b"Zhan"):
            remains += (
                [(path.name, secret, content[max(content.find(secret) - 16, 0) :][:60])] if secret in content else []
            )
        assert "Zhang" not in path.name
    return remains


@pytest.mark.parametrize("codec", ["explicit", "implicit", "jpeg"])
def test_nothing_planted_in_any_attribute_of_the_standard_survives(tmp_path, codec):
    path = image(tmp_path / "in", "a.dcm", [PIXELS], codec, sparse=codec == "jpeg")
    before = pixels_of(path)
    assert plant_everywhere(path, ImplicitVRLittleEndian if codec == "implicit" else None) > 2_500
    assert all(secret in path.read_bytes() for secret in (*SECRETS, SECRET_NUMBER))
    copy = clean(path, tmp_path / "out")
    assert survivors(tmp_path / "out") == []
    np.testing.assert_array_equal(pixels_of(copy), before)


def test_nothing_survives_whose_representation_became_unknown(tmp_path):
    """A value of unknown VR (UN) is still known by its tag."""
    path = image(tmp_path / "in", "a.dcm", [PIXELS], "explicit")
    data = dcmread(path)
    for tag in planted_tags():
        vr = datadict.DicomDictionary.get(tag, ("LO",))[0].split(" ")[0]
        if isinstance(PLANTED.get(vr), str) and tag not in data:
            value = PLANTED[vr].encode()
            data.add(DataElement(tag, "UN", value + b" " * (len(value) % 2)))
    data.save_as(path)
    clean(path, tmp_path / "out")
    assert survivors(tmp_path / "out") == []


def test_a_nested_sequence_of_unknown_representation_is_followed(tmp_path):
    """Implicit items inside UN, as PS3.5 wants them: the scale is read, the name beside it is not."""
    path = image(tmp_path / "in", "a.dcm", [PIXELS], "explicit")
    data = dcmread(path)
    groups = data.SharedFunctionalGroupsSequence[0]
    groups.PatientName = NAME
    buffer = io.BytesIO()
    Dataset.save_as(_only(data, "SharedFunctionalGroupsSequence"), buffer, implicit_vr=True, little_endian=True)
    value = buffer.getvalue()[8:]
    data.add_new(0x52009229, "UN", value)
    data.save_as(path)
    assert check_slide(path).mpp == (0.51, 0.5)
    copy = clean(path, tmp_path / "out")
    assert check_slide(copy).mpp == (0.51, 0.5)
    assert survivors(tmp_path / "out") == []


def _only(data, keyword):
    single = Dataset()
    setattr(single, keyword, getattr(data, keyword))
    return single


def without_comments(codec, frame):
    """The comment of OpenJPEG and the SPIFF header of CharLS are no pixels."""
    if codec in ("jpeg-2000", "htj2k"):
        return clean_j2k(frame.rstrip(b"\0")).rstrip(b"\0")
    if codec == "jpeg-ls":
        return b"".join(clean_jpeg(lambda start, size: frame[start : start + size], len(frame)))
    return frame.rstrip(b"\0")


@pytest.mark.parametrize("codec", CODECS)
def test_the_frames_of_a_copy_are_those_of_the_original(tmp_path, codec):
    path = image(tmp_path / "in", "a.dcm", [PIXELS], codec)
    copy = clean(path, tmp_path / "out")
    original, copied = dcmread(path), dcmread(copy)
    if codec in ("explicit", "implicit"):
        assert copied.PixelData == original.PixelData
        assert copied.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    else:
        frames = [list(generate_frames(data.PixelData, number_of_frames=12)) for data in (original, copied)]
        assert [without_comments(codec, frame) for frame in frames[0]] == [frame.rstrip(b"\0") for frame in frames[1]]
    np.testing.assert_array_equal(pixels_of(copy), pixels_of(path))
    if codec in ("explicit", "jpeg", "jpeg-2000"):
        with openslide.OpenSlide(copy) as slide:
            other = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
            assert not slide.associated_images
        np.testing.assert_array_equal(other, pixels_of(path))
    assert len(list(tile_ranges(check_slide(copy), SLIDE_LIMITS))) in (1, 12)


def test_comments_inside_jpeg_frames_are_left_out(tmp_path):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = NAME
    Image.fromarray(PIXELS[:64, :64]).save(buffer, "JPEG", comment=NAME.encode(), exif=exif)
    path = image(tmp_path / "in", "a.dcm", [PIXELS[:64, :64]])
    data = dcmread(path)
    data.PixelData = encapsulate([buffer.getvalue() + b"Zhang San behind the end"])
    data.save_as(path)
    before = pixels_of(path)
    copy = clean(path, tmp_path / "out")
    assert survivors(tmp_path / "out") == []
    np.testing.assert_array_equal(pixels_of(copy), before)


@pytest.mark.parametrize("codec", ["explicit", "jpeg"])
def test_bytes_behind_the_pixels_are_left_out(tmp_path, codec):
    path = image(tmp_path / "in", "a.dcm", [PIXELS], codec)
    data = dcmread(path)
    if codec == "explicit":
        data.PixelData += NAME.encode() + b" "
        data.save_as(path)
    with path.open("ab") as file:
        file.write(bytes(512) if codec == "explicit" else b"no element at all: Zhang San")
    clean(path, tmp_path / "out")
    assert survivors(tmp_path / "out") == []


def test_native_pixels_that_lack_bytes_are_refused(tmp_path):
    """Their length covers the beginning of what follows, which would be copied as pixels."""
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit")
    data = dcmread(path)
    data.add_new(0xFFFCFFFC, "OB", b"padding by Zhang San")
    data.save_as(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1000] + content[-980:])
    with pytest.raises(SlideError):
        check_slide(path)


def test_a_colour_profile_loses_its_texts(tmp_path):
    path = image(tmp_path / "in", "a.dcm", [PIXELS], "explicit")
    profile_bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert b"sRGB built-in" in profile_bytes.replace(b"\0", b"")
    data = dcmread(path)
    data.OpticalPathSequence[0].ICCProfile = profile_bytes
    data.save_as(path)
    copy = dcmread(clean(path, tmp_path / "out")).OpticalPathSequence[0].ICCProfile
    assert b"built-in" not in copy.replace(b"\0", b"")
    ImageCms.ImageCmsProfile(io.BytesIO(copy))


def test_only_codes_of_the_standard_are_copied_with_the_standards_meaning(tmp_path):
    def code(value, meaning, scheme="SCT"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    def step(name, value):
        item = Dataset()
        item.ValueType, item.ConceptNameCodeSequence = "CODE", Sequence([name])
        item.ConceptCodeSequence = Sequence([value])
        return item

    staining = step(code("127790008", NAME), code("12710003", "of Zhang San"))
    personal = step(code("127790008", "Staining"), code("330281196103", NAME))
    text_step = Dataset()
    text_step.ValueType, text_step.TextValue = "TEXT", NAME
    preparation, specimen = Dataset(), Dataset()
    preparation.SpecimenPreparationStepContentItemSequence = Sequence([staining, personal, text_step])
    specimen.SpecimenPreparationSequence = Sequence([preparation])
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "S-330281", PLANTED_UID
    path = image(tmp_path / "in", "a.dcm", [PIXELS], "explicit")
    data = dcmread(path)
    data.SpecimenDescriptionSequence = Sequence([specimen])
    data.Manufacturer, data.ManufacturerModelName = "leica biosystems", "Scanner of Zhang San"
    data.save_as(path)
    copied = dcmread(clean(path, tmp_path / "out"))
    steps = copied.SpecimenDescriptionSequence[0].SpecimenPreparationSequence[0]
    (item,) = steps.SpecimenPreparationStepContentItemSequence
    assert item.ConceptNameCodeSequence[0].CodeMeaning == "Staining"
    assert item.ConceptCodeSequence[0].CodeMeaning == "hematoxylin stain"
    assert (copied.Manufacturer, copied.ManufacturerModelName) == ("Leica Biosystems", "REMOVED")


def test_what_the_profile_did_is_stated_in_the_copy(tmp_path):
    copied = dcmread(clean(image(tmp_path / "in", "a.dcm", [PIXELS]), tmp_path / "out"))
    assert copied.PatientIdentityRemoved == "YES"
    assert copied.DeidentificationMethod
    codes = [item.CodeValue for item in copied.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113103", "113105"]
    assert copied.LongitudinalTemporalInformationModified == "REMOVED"
    assert (copied.BurnedInAnnotation, copied.RecognizableVisualFeatures, copied.SpecimenLabelInImage) == ("NO",) * 3
    assert (copied.PatientName, copied.PatientID, copied.StudyDate) == ("", "", "")


def test_identifiers_are_keyed_and_fit_together_in_all_instances(tmp_path):
    for number, size in enumerate([(200, 150), (100, 75)]):
        attributes = {"AccessionNumber": "P26-0113", "ContainerIdentifier": "P26-0113-1"}
        image(tmp_path / "in", f"{number}.dcm", [painted(*size)], "explicit", instance=number, attributes=attributes)
    (tmp_path / "other").mkdir()
    copies = [dcmread(each) for each in sorted(clean(tmp_path / "in" / "0.dcm", tmp_path / "out").parent.iterdir())]
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["slide-0000.dcm", "slide-0001.dcm"]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "ContainerIdentifier"):
        assert len({getattr(copy, keyword) for copy in copies}) == 1
    assert copies[0].SOPInstanceUID != copies[1].SOPInstanceUID
    assert all(str(copy.StudyInstanceUID).startswith("2.25.") for copy in copies)
    clean_dicom(check_slide(tmp_path / "in" / "0.dcm"), tmp_path / "other", SLIDE_LIMITS, bytes(32))
    assert dcmread(tmp_path / "other" / "slide-0000.dcm").StudyInstanceUID != copies[0].StudyInstanceUID


def test_label_overview_and_thumbnail_are_not_copied(tmp_path):
    path = image(tmp_path / "in", "a.dcm", [PIXELS])
    for number, flavour in enumerate(("LABEL", "OVERVIEW", "THUMBNAIL"), 2):
        attributes = {"ImageType": ["ORIGINAL", "PRIMARY", flavour, "NONE"]}
        image(tmp_path / "in", f"{flavour}.dcm", [PIXELS], instance=number, attributes=attributes)
    clean(path, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_concatenation_becomes_one_instance(tmp_path):
    parts = concatenation(tmp_path / "in")
    copy = clean(parts[0], tmp_path / "out")
    copied = dcmread(copy)
    assert (copied.NumberOfFrames, "ConcatenationUID" in copied) == (12, False)
    with openslide.OpenSlide(copy) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize("sparse", [False, True])
def test_of_several_optical_paths_only_the_one_that_is_read_is_copied(tmp_path, sparse):
    path, second = two_paths(tmp_path / "in", "111743", "111744", sparse=sparse)
    copy = clean(path, tmp_path / "out")
    copied = dcmread(copy)
    assert (copied.NumberOfFrames, copied.NumberOfOpticalPaths, len(copied.OpticalPathSequence)) == (12, 1, 1)
    np.testing.assert_array_equal(pixels_of(copy), second)


def test_memory_does_not_grow_with_the_pixels(tmp_path):
    """400 MB of native pixels in a file with a hole."""
    path = image(tmp_path / "in", "a.dcm", [PIXELS[:64, :64]], "explicit")
    data = dcmread(path)
    data.Rows = data.Columns = 1024
    data.TotalPixelMatrixRows = data.TotalPixelMatrixColumns = 11 * 1024 + 1
    data.NumberOfFrames, data.PixelData = 144, b"\0\0"
    data.save_as(path)
    size = 144 * 3 * 1024 * 1024
    with path.open("r+b") as file:
        file.seek(-6, 2)
        file.write(size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    copy = clean_dicom(check_slide(path), tmp_path / "out", SLIDE_LIMITS, KEY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert copy.stat().st_size > size
    copy.unlink()
    assert peak < 50e6
