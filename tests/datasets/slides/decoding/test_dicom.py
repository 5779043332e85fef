"""DICOM slides as laboratories export them are read with the right pixels, or refused by what stands in the way."""

import shutil

import numpy as np
import openslide
import pytest
from PIL import Image, ImageFilter
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from datasets.slides import sandbox
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.reader import open_slide
from datasets.slides.simulate.slides import simulate_slide
from datasets.slides.simulate.writers import write_dicom
from tests.datasets.slides.dicom_files import CODECS, frame_groups, image
from tests.datasets.slides.slide_files import painted

PIXELS = painted(200, 150)


def read(path, level=0):
    with open_slide(path) as slide:
        width, height = slide.metadata.levels[level].width, slide.metadata.levels[level].height
        return slide.read(0, 0, (width, height), level)


def refusal(path):
    with pytest.raises(SlideError) as refused, open_slide(path):
        pass
    return refused.value


def close_to(pixels, expected, tolerance=4):
    return np.abs(pixels.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sparse", [False, True])
def test_every_codec_gives_the_pixels_that_were_encoded(tmp_path, codec, sparse):
    pixels = read(image(tmp_path, "a.dcm", [PIXELS], codec, sparse=sparse))
    if codec == "jpeg":
        assert close_to(pixels, PIXELS, 8)
    else:
        np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize("codec", ["explicit", "jpeg", "jpeg-2000"])
def test_openslide_reads_the_same_pixels(tmp_path, codec):
    path = image(tmp_path, "a.dcm", [PIXELS], codec)
    with openslide.OpenSlide(path) as slide:
        expected = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("codec", ["explicit", "rle", "jpeg-ls", "jpeg-2000", "htj2k", "jpeg-lossless"])
def test_grey_of_12_in_16_bits_is_scaled_to_8(tmp_path, codec):
    grey = PIXELS[..., 0].astype(np.uint16) * 16
    path = image(tmp_path, "a.dcm", [grey], codec, attributes={"BitsStored": 12, "HighBit": 11})
    expected = np.rint(grey * (255 / 4095)).astype(np.uint8)
    np.testing.assert_array_equal(read(path), np.repeat(expected[..., None], 3, axis=2))


def test_colour_of_16_bits_is_scaled_to_8(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS.astype(np.uint16) * 257], "explicit")
    np.testing.assert_array_equal(read(path), PIXELS)


def test_monochrome1_is_inverted_as_its_low_values_are_bright(tmp_path):
    grey = np.ascontiguousarray(PIXELS[..., 0])
    path = image(tmp_path, "a.dcm", [grey], "explicit", attributes={"PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(read(path)[..., 1], 255 - grey)


def test_a_palette_gives_its_colours(tmp_path):
    indices = (PIXELS[..., 0] // 64).astype(np.uint8)
    colours = np.array([[10, 20, 30], [250, 0, 9], [7, 200, 8], [90, 91, 92]], np.uint16)
    names = ("Red", "Green", "Blue")
    attributes = {f"{name}PaletteColorLookupTableDescriptor": [4, 0, 16] for name in names}
    attributes |= {
        f"{name}PaletteColorLookupTableData": (colours[:, index] << 8).astype("<u2").tobytes()
        for index, name in enumerate(names)
    }
    path = image(
        tmp_path,
        "a.dcm",
        [indices],
        "explicit",
        attributes={"PhotometricInterpretation": "PALETTE COLOR", **attributes},
    )
    np.testing.assert_array_equal(read(path), colours[indices].astype(np.uint8))


def test_planes_of_colour_are_read_as_colours(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS[:64, :64]], "explicit")
    data = dcmread(path)
    data.PixelData, data.PlanarConfiguration = PIXELS[:64, :64].transpose(2, 0, 1).tobytes(), 1
    data.save_as(path)
    np.testing.assert_array_equal(read(path), PIXELS[:64, :64])


def test_luma_and_chroma_without_compression_become_colours(tmp_path):
    from PIL import Image

    ybr = np.asarray(Image.fromarray(PIXELS).convert("YCbCr"))
    path = image(tmp_path, "a.dcm", [ybr], "explicit", attributes={"PhotometricInterpretation": "YBR_FULL"})
    assert np.abs(read(path).astype(int) - PIXELS).max() <= 2


def test_a_jpeg_of_unnamed_rgb_is_read_by_the_header(tmp_path):
    import imagecodecs

    path = image(tmp_path, "a.dcm", [PIXELS[:64, :64]])
    stream = imagecodecs.jpeg8_encode(PIXELS[:64, :64], level=95, colorspace="RGB", outcolorspace="RGB")
    adobe = stream.find(b"\xff\xee\x00\x0eAdobe")
    stream = stream[:adobe] + stream[adobe + 16 :] if adobe > 0 else stream
    data = dcmread(path)
    data.PixelData, data.PhotometricInterpretation = encapsulate([stream]), "RGB"
    data.save_as(path)
    assert close_to(read(path), PIXELS[:64, :64])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "YBR_PARTIAL_420"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK with 3 samples"),
        ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, "without its tables"),
        ({"PixelRepresentation": 1}, "signed"),
        ({"BitsStored": 12}, "12 of 8 bits"),
    ],
)
def test_a_layout_of_samples_that_is_not_read_is_refused_by_its_name(tmp_path, changes, words):
    refused = refusal(image(tmp_path, "a.dcm", [PIXELS], "explicit", attributes=changes))
    assert "packing" in refused.codes
    assert words in str(refused)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
        ("1.2.840.10008.1.2.2", "Explicit VR Big Endian"),
        ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
        ("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_refused_by_its_name(tmp_path, syntax, name):
    path = image(tmp_path, "a.dcm", [PIXELS], "jpeg-2000")
    data = path.read_bytes()
    old, new = b"1.2.840.10008.1.2.4.90", syntax.encode() + bytes(len(syntax) % 2)
    head, tail = data.split(old, 1)
    changed = bytearray(head[:-2] + len(new).to_bytes(2, "little") + new + tail)
    group_length = int.from_bytes(changed[140:144], "little") + len(new) - len(old)
    changed[140:144] = group_length.to_bytes(4, "little")
    path.write_bytes(changed)
    refused = refusal(path)
    assert refused.codes == ("packing",)
    assert name in str(refused)
    assert "convert the series" in str(refused)


# ---- several instances -------------------------------------------------------------------------


def concatenation(folder, codec="explicit", total=2):
    """The 12 tiles of an image in two instances."""
    path = image(folder, "all.dcm", [PIXELS], codec)
    data = dcmread(path)
    frame_bytes, parts = 64 * 64 * 3, []
    native = data.PixelData
    for number, (first, last) in enumerate(((0, 5), (5, 12)), 1):
        data.PixelData = native[first * frame_bytes : last * frame_bytes]
        data.NumberOfFrames, data.SOPInstanceUID = last - first, f"1.2.826.5.{number}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.ConcatenationUID, data.InConcatenationNumber = "1.2.826.4", number
        data.ConcatenationFrameOffsetNumber = first
        if total:
            data.InConcatenationTotalNumber = total
        parts.append(folder / f"part{number}.dcm")
        data.save_as(parts[-1])
    path.unlink()
    return parts


@pytest.mark.parametrize("opened", [0, 1])
def test_a_complete_concatenation_is_one_level(tmp_path, opened):
    np.testing.assert_array_equal(read(concatenation(tmp_path)[opened]), PIXELS)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_concatenation_without_one_instance_says_which_are_there(tmp_path, missing):
    parts = concatenation(tmp_path)
    parts[missing].unlink()
    refused = refusal(parts[1 - missing])
    assert refused.codes == ("concatenation",)
    assert f"of the 2 parts of a concatenation only {2 - missing} is there" in str(refused)


def test_a_concatenation_of_unstated_length_needs_all_tiles(tmp_path):
    parts = concatenation(tmp_path, total=None)
    np.testing.assert_array_equal(read(parts[0]), PIXELS)
    parts[1].unlink()
    assert refusal(parts[0]).codes == ("tile_table",)


def test_levels_come_from_several_instances_and_one_level_alone_is_enough(tmp_path):
    coarse = image(tmp_path, "b.dcm", [painted(100, 75)], "explicit", instance=2)
    image(tmp_path, "a.dcm", [PIXELS], "explicit")
    with open_slide(coarse) as slide:
        assert [(level.width, level.height) for level in slide.metadata.levels] == [(200, 150), (100, 75)]
    np.testing.assert_array_equal(read(coarse, 1), painted(100, 75))
    shutil.copytree(tmp_path, tmp_path / "alone", ignore=shutil.ignore_patterns("a.dcm", "alone"))
    assert read(tmp_path / "alone" / "b.dcm").shape == (75, 100, 3)


def test_an_instance_that_was_sent_twice_counts_once(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit")
    shutil.copyfile(path, tmp_path / "again.dcm")
    np.testing.assert_array_equal(read(path), PIXELS)


def test_two_images_of_one_series_that_are_no_pyramid_are_refused(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit")
    image(tmp_path, "b.dcm", [painted(100, 150)], "explicit", instance=2)
    assert refusal(path).codes == ("two_images",)


# ---- optical paths and focal planes ---------------------------------------------------------------


def paths_of(*codes):
    items = []
    for number, code in enumerate(codes, 1):
        path, illumination = Dataset(), Dataset()
        path.OpticalPathIdentifier = str(number)
        if code:
            illumination.CodeValue, illumination.CodingSchemeDesignator = code, "DCM"
            illumination.CodeMeaning = "Zhang San"
            path.IlluminationTypeCodeSequence = Sequence([illumination])
        items.append(path)
    return Sequence(items)


def two_paths(folder, *codes, sparse=False):
    second = painted(200, 150, seed=5)
    attributes = {
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 2,
        "OpticalPathSequence": paths_of(*codes),
    }
    if sparse:
        groups = frame_groups([PIXELS], 64, "1") + frame_groups([PIXELS], 64, "2")
        attributes["PerFrameFunctionalGroupsSequence"] = Sequence(groups)
    return image(folder, "a.dcm", [PIXELS, second], "explicit", sparse=sparse, attributes=attributes), second


@pytest.mark.parametrize("sparse", [False, True])
def test_of_several_optical_paths_the_only_one_in_bright_field_is_read(tmp_path, sparse):
    path, second = two_paths(tmp_path, "111743", "111744", sparse=sparse)
    np.testing.assert_array_equal(read(path), second)


@pytest.mark.parametrize("codes", [("", ""), ("111744", "111744"), ("111743", "111743")])
def test_optical_paths_without_a_clear_choice_are_refused_by_name(tmp_path, codes):
    refused = refusal(two_paths(tmp_path, *codes)[0])
    assert refused.codes == ("optical_paths",)
    assert "2 optical paths" in str(refused)
    assert "Zhang" not in str(refused)


def test_fluorescence_is_refused_by_name(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], attributes={"OpticalPathSequence": paths_of("111743")})
    refused = refusal(path)
    assert refused.codes == ("illumination",)
    assert "Epifluorescence illumination" in str(refused)


@pytest.mark.parametrize("attribute", ["BurnedInAnnotation", "SpecimenLabelInImage"])
def test_text_in_the_pixels_is_refused(tmp_path, attribute):
    assert refusal(image(tmp_path, "a.dcm", [PIXELS], attributes={attribute: "YES"})).codes == ("burned_in",)


def test_heights_of_autofocus_are_no_focal_planes(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit", sparse=True)
    data = dcmread(path)
    for number, item in enumerate(data.PerFrameFunctionalGroupsSequence):
        item.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = number
    data.save_as(path)
    np.testing.assert_array_equal(read(path), PIXELS)


def test_tiles_that_were_not_scanned_are_white(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit", sparse=True)
    data = dcmread(path)
    del data.PerFrameFunctionalGroupsSequence[0]
    data.PixelData = data.PixelData[64 * 64 * 3 :]
    data.NumberOfFrames -= 1
    data.save_as(path)
    pixels = read(path)
    assert (pixels[:64, :64] == 255).all()
    np.testing.assert_array_equal(pixels[64:], PIXELS[64:])


def test_frames_off_the_grid_are_refused(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "explicit", sparse=True)
    data = dcmread(path)
    data.PerFrameFunctionalGroupsSequence[3].PlanePositionSlideSequence[0].RowPositionInTotalImagePixelMatrix = 7
    data.save_as(path)
    assert refusal(path).codes == ("malformed",)


def test_frames_of_several_fragments_are_refused(tmp_path):
    path = image(tmp_path, "a.dcm", [PIXELS], "jpeg-2000")
    data = dcmread(path)
    data.PixelData = encapsulate(list(generate_frames(data.PixelData, number_of_frames=12)), fragments_per_frame=3)
    data.save_as(path)
    refused = refusal(path)
    assert refused.codes == ("fragments",)
    assert "its 12 frames are stored in 36 fragments; expected one fragment for each frame" in str(refused)


# ---- focal planes -----------------------------------------------------------------------------------


def blurred(pixels, radius):
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("opener", [open_slide, sandbox.open_slide])
def test_each_tile_is_read_in_its_sharpest_plane_or_in_a_given_one(tmp_path, sparse, opener):
    """The left half is sharp in the lowest plane, the right half in the highest."""
    left, right = PIXELS.copy(), PIXELS.copy()
    left[:, 128:] = blurred(PIXELS, 3)[:, 128:]
    right[:, :128] = blurred(PIXELS, 3)[:, :128]
    planes = [left, blurred(PIXELS, 2), right]
    path = image(tmp_path, "a.dcm", planes, "explicit", sparse=sparse)
    data = dcmread(path)
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 0.0015
    data.save_as(path)
    with opener(path) as slide:
        assert (slide.metadata.planes, slide.metadata.plane_spacing) == (3, 1.5)
        for number, plane in enumerate(planes):
            np.testing.assert_array_equal(slide.read(0, 0, (200, 150), plane=number), plane)
        stained = slide.read(64, 64, (128, 64))
        np.testing.assert_array_equal(stained, PIXELS[64:128, 64:192])
        with pytest.raises(ValueError, match="plane is 3; it must be from 0 to 2"):
            slide.read(0, 0, (8, 8), plane=3)


def test_a_slide_of_one_plane_has_plane_0_alone(tmp_path):
    with open_slide(image(tmp_path, "a.dcm", [PIXELS], "explicit")) as slide:
        assert (slide.metadata.planes, slide.metadata.plane_spacing) == (1, None)
        np.testing.assert_array_equal(slide.read(0, 0, (200, 150), plane=0), PIXELS)
        with pytest.raises(ValueError, match="plane"):
            slide.read(0, 0, (8, 8), plane=1)


def test_a_simulated_stack_is_read_as_sharp_as_the_slide_without_planes(tmp_path):
    """SIMULATED: Gaussian blur stands for defocus."""
    slide = simulate_slide(3, "HSIL", 5, 2)
    flat, stack = write_dicom(tmp_path / "flat", slide), write_dicom(tmp_path / "stack", slide, planes=5)
    with open_slide(flat) as sharp, open_slide(stack) as focused:
        assert (focused.metadata.planes, focused.metadata.plane_spacing) == (5, 1.0)
        size = sharp.metadata.size
        expected, pixels = sharp.read(0, 0, size), focused.read(0, 0, size)
        single = np.abs(focused.read(0, 0, size, plane=0).astype(int) - expected).mean()
    assert np.abs(pixels.astype(int) - expected).mean() < 0.1 * single


def test_the_copy_of_a_stack_has_all_its_planes(tmp_path):
    path = image(tmp_path / "in", "a.dcm", [PIXELS, blurred(PIXELS, 2), blurred(PIXELS, 4)], "jpeg", sparse=True)
    (tmp_path / "out").mkdir()
    copy = deidentify_slide(path, tmp_path / "out", key=bytes(32)).path
    with open_slide(path) as slide, open_slide(copy) as copied:
        assert copied.metadata.planes == 3
        for plane in range(3):
            pixels = [each.read(0, 0, (200, 150), plane=plane) for each in (slide, copied)]
            np.testing.assert_array_equal(*pixels)
