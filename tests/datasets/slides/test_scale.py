"""A slide's scale is what its file states; there is none where two statements differ or a program wrote a default."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.slides import sandbox, tiling, tissue
from datasets.slides.decoding.metadata import Level, SlideMetadata
from datasets.slides.deidentification.deidentify import deidentify_slide
from datasets.slides.errors import SlideError
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.scale import ScaleStatement, conflicting_statements, parse_decimal, resolve_scale
from datasets.slides.static_check import check_slide
from tests.datasets.slides.slide_files import jpeg, kfb, one_image, painted

APERIO = "Aperio Image Library v12.3\r\n128x128 (128x128) JPEG Q=70"
SCN = (
    '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection sizeX="9000000" sizeY="9000000"><image>'
    '<pixels sizeX="128" sizeY="128"><dimension sizeX="128" sizeY="128" r="0" ifd="0"/></pixels>'
    '<view sizeX="{nm}" sizeY="{nm}" offsetX="1" offsetY="1"/></image></collection></scn>'
)
PHILIPS = (
    '<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject '
    'ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">{kind}</Attribute><Attribute '
    'Name="DICOM_PIXEL_SPACING">"0.00026" "0.00025"</Attribute></DataObject></Array></Attribute></DataObject>'
)
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels SizeX="64" SizeY="64" '
    'PhysicalSizeX="9" PhysicalSizeY="9"/></Image><Image><Pixels SizeX="128" SizeY="128" {sizes}/></Image></OME>'
)


def per_cm(mpp):
    return {"resolution": [round(10_000 / mpp * 1_000), 1_000], "unit": 3}


STATED = {  # tags: what they state
    "Aperio": ({"description": f"{APERIO}|AppMag = 40|MPP = 0.2520"}, (0.252, 0.252)),
    "Aperio with a decimal comma": ({"description": f"{APERIO}|MPP = 0,252000"}, (0.252, 0.252)),
    "Aperio with words in GBK": ({"description": f"{APERIO}|Title = \u8f88|MPP=0.25"}, (0.25, 0.25)),
    "Aperio's magnification alone": ({"description": f"{APERIO}|AppMag = 40"}, None),
    "a resolution per centimetre": (per_cm(0.5), (0.5, 0.5)),
    "a resolution per inch": ({"resolution": [101_600, 1], "unit": 2}, (0.25, 0.25)),
    "a resolution without a unit": ({"resolution": [20_000, 1], "unit": 1}, None),
    "ImageJ": ({"description": "ImageJ=1.54\nunit=\\u00B5m\n", "resolution": [4, 1], "unit": 1}, (0.25, 0.25)),
    "ImageJ in inches": ({"description": "ImageJ=1.54\nunit=inch\n", "resolution": [72, 1], "unit": 2}, None),
    "OME": ({"description": OME.format(sizes='PhysicalSizeX="0.25" PhysicalSizeY="0.26"')}, (0.25, 0.26)),
    "OME in nanometres": (
        {"description": OME.format(sizes='PhysicalSizeX="250" PhysicalSizeXUnit="nm"')},
        (0.25, 0.25),
    ),
    "OME in pixels": ({"description": OME.format(sizes='PhysicalSizeX="1" PhysicalSizeXUnit="pixel"')}, None),
    "Leica": ({"description": SCN.format(nm=64_000)}, (0.5, 0.5)),
    "Philips": ({"description": PHILIPS.format(kind="WSI"), "software": "Philips DP v1.0"}, (0.25, 0.26)),
    "Philips' label": ({"description": PHILIPS.format(kind="LABELIMAGE"), "software": "Philips DP v1.0"}, None),
    "Ventana": ({"xmp": '<iScan Magnification="40" ScanRes="0.2325">'}, (0.2325, 0.2325)),
    "Trestle": ({"software": "MedScan", "resolution": [1, 4], "unit": 1}, (0.25, 0.25)),
}


@pytest.mark.parametrize("name", STATED)
def test_a_scale_is_read_from_every_field_that_states_it(tmp_path, name):
    tags, mpp = STATED[name]
    (tmp_path / "slide.tif").write_bytes(one_image(**tags))
    assert check_slide(tmp_path / "slide.tif").mpp == mpp


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1_200, 2_400])
@pytest.mark.parametrize("unit", [2, 3])
def test_a_resolution_that_programs_write_by_default_is_no_scale(tmp_path, dpi, unit):
    values = [dpi, 1] if unit == 2 else [round(dpi / 2.54), 1] if dpi > 100 else [round(dpi / 0.0254), 100]
    for resolution in (values, [dpi * 100, 100] if unit == 2 else [round(dpi / 2.54 * 1_000), 1_000]):
        (tmp_path / "slide.tif").write_bytes(one_image(resolution=resolution, unit=unit))
        assert check_slide(tmp_path / "slide.tif").scales == ()


def png(tmp_path, per_metre):
    def block(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = block(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    scale = block(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1))
    body = block(b"IDAT", zlib.compress(bytes(8 * 25)))
    (tmp_path / "slide.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + scale + body + block(b"IEND", b""))
    return tmp_path / "slide.png"


def jpeg_file(tmp_path, unit, density):
    data = bytearray(jpeg(painted(32, 32)))
    assert data[6:11] == b"JFIF\0"
    data[13:18] = struct.pack(">BHH", unit, density, density)
    (tmp_path / "slide.jpg").write_bytes(data)
    return tmp_path / "slide.jpg"


def test_a_png_and_a_jpeg_state_a_scale_too(tmp_path):
    assert check_slide(png(tmp_path, 2_000_000)).mpp == (0.5, 0.5)
    assert check_slide(png(tmp_path, 2_835)).mpp is None  # 72 dots per inch
    assert check_slide(jpeg_file(tmp_path, 2, 20_000)).mpp == (0.5, 0.5)
    assert check_slide(jpeg_file(tmp_path, 1, 300)).mpp is None
    assert check_slide(jpeg_file(tmp_path, 0, 20_000)).mpp is None


CONFLICTS = {  # tags: the fields whose values are displayed
    "MPP and resolution": ({"description": f"{APERIO}|MPP = 0.25", **per_cm(0.5)}, ("Aperio MPP", "XResolution")),
    "MPP and magnification": ({"description": f"{APERIO}|AppMag = 20|MPP = 0.25"}, ("Aperio MPP", "Aperio AppMag")),
    "MPP twice": ({"description": f"{APERIO}|MPP = 0.25|MPP = 0.5"}, ("0.25 (Aperio MPP)", "0.5 (Aperio MPP)")),
    "OME and resolution": (
        {"description": OME.format(sizes='PhysicalSizeX="0.5"'), **per_cm(0.25)},
        ("OME PhysicalSizeX", "XResolution"),
    ),
    "ImageJ's unit and the tag's": (
        {"description": "ImageJ=1.54\nunit=micron\n", "resolution": [4_000, 1_000], "unit": 3, "width": 128},
        (),
    ),
    "Leica and resolution": ({"description": SCN.format(nm=64_000), **per_cm(0.25)}, ("Leica view", "XResolution")),
    "Ventana's resolution and magnification": (
        {"xmp": '<iScan Magnification="20" ScanRes="0.25">'},
        ("Ventana ScanRes", "Ventana Magnification"),
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_two_fields_that_differ_are_both_displayed_and_neither_is_believed(tmp_path, name):
    tags, fields = CONFLICTS[name]
    (tmp_path / "slide.tif").write_bytes(one_image(**tags))
    checked = check_slide(tmp_path / "slide.tif")
    if not fields:  # the tag's unit makes a scale that no scanner has
        assert checked.mpp == (0.25, 0.25)
        return
    assert checked.mpp is None
    metadata = SlideMetadata(checked.format, (Level(128, 128, 1.0),), scales=checked.scales)
    with pytest.raises(SlideError) as refused:
        tiling.tile_grid(metadata, tissue.Tissue(np.ones((4, 4), bool), (32.0, 32.0), 0.0))
    assert refused.value.codes == ("scale_conflict",)
    assert all(field in str(refused.value) for field in fields)
    assert all(field in refused.value.zh() for field in fields)


@pytest.mark.parametrize(
    "name", [name for name in CONFLICTS if CONFLICTS[name][1] and name.split()[0] in ("MPP", "OME")]
)
def test_a_copy_believes_none_of_two_values_either(tmp_path, name):
    (tmp_path / "slide.tif").write_bytes(one_image(**CONFLICTS[name][0]))
    (tmp_path / "store").mkdir()
    assert check_slide(deidentify_slide(tmp_path / "slide.tif", tmp_path / "store", key=bytes(32)).path).mpp is None


def test_an_operators_scale_ends_a_conflict(tmp_path):
    (tmp_path / "slide.svs").write_bytes(one_image(description=f"{APERIO}|MPP = 0.25", **per_cm(0.5)))
    with sandbox.open_slide(tmp_path / "slide.svs") as slide:
        assert (slide.metadata.mpp, slide.metadata.stated, slide.metadata.mpp_from) == (None, None, "")
    with sandbox.open_slide(tmp_path / "slide.svs", mpp=0.25) as slide:
        assert (slide.metadata.mpp, slide.metadata.mpp_from) == ((0.25, 0.25), "operator")
        assert [statement.x for statement in slide.metadata.scales] == [0.25, 0.5]


def test_a_kfb_whose_magnification_contradicts_its_scale_has_none(tmp_path):
    (tmp_path / "a.kfb").write_bytes(kfb(painted(200, 150), mpp=0.25, power=20))
    (tmp_path / "b.kfb").write_bytes(kfb(painted(200, 150), mpp=0.25, power=40))
    assert check_slide(tmp_path / "a.kfb").mpp is None
    assert check_slide(tmp_path / "b.kfb").mpp == (0.25, 0.25)


scales = st.floats(SLIDE_LIMITS.finest_mpp, SLIDE_LIMITS.coarsest_mpp)


@given(st.lists(st.builds(ScaleStatement, st.sampled_from("ABC"), scales, scales), max_size=5))
def test_a_scale_is_the_first_statement_if_all_are_within_two_percent_and_else_none(statements):
    axes = [[statement.x for statement in statements], [statement.y for statement in statements]]
    agree = all(max(values) / min(values) <= 1.02 + 1e-9 for values in axes) if statements else False
    assert resolve_scale(statements) == ((statements[0].x, statements[0].y) if agree else None)
    assert bool(conflicting_statements(statements)) == bool(statements and not agree)


@given(st.lists(st.builds(ScaleStatement, st.just("A"), scales, scales, st.booleans()), max_size=5), st.randoms())
def test_whether_statements_differ_does_not_depend_on_their_order(statements, random):
    others = random.sample(statements, len(statements))
    assert set(conflicting_statements(statements)) == set(conflicting_statements(others))
    assert (resolve_scale(statements) is None) == (resolve_scale(others) is None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mpp=st.floats(0.1, 2.0), ratio=st.floats(0.5, 2.0), comma=st.booleans())
def test_a_file_has_a_scale_only_if_its_two_fields_agree(tmp_path, mpp, ratio, comma):
    text = f"{mpp:.4f}".replace(".", "," if comma else ".")
    stated = parse_decimal(text)
    (tmp_path / "slide.svs").write_bytes(one_image(description=f"{APERIO}|MPP = {text}", **per_cm(mpp * ratio)))
    checked = check_slide(tmp_path / "slide.svs")
    values = [statement.x for statement in checked.scales]
    assert values[0] == pytest.approx(stated)
    differ = max(values) / min(values) > 1.02 + 1e-9
    assert checked.mpp == (None if differ else (values[0], values[0]))


def test_a_scale_in_words_alone_is_kept_by_the_copy_without_words(tmp_path):
    path = tmp_path / "slide.ome.tif"
    pixels = painted(512, 512)
    metadata = {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb", ome=True, metadata=metadata)
    assert check_slide(path).mpp == (0.25, 0.25)
    (tmp_path / "store").mkdir()
    assert check_slide(deidentify_slide(path, tmp_path / "store", key=bytes(32)).path).mpp == (0.25, 0.25)
