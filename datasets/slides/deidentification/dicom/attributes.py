"""The attributes that a copy holds: those that the whole slide microscopy IOD (PS3.3, A.32.8) needs for pixels,
geometry, scale, optical path, and preparation of the specimen in codes. All others are left out.
"""

from __future__ import annotations

from datasets.slides.deidentification.dicom.rules import (
    CopyDataset,
    Table,
    code_items,
    constant,
    decimals,
    descriptor,
    icc_profile,
    identifier,
    image_type,
    lookup_table,
    names,
    numbers,
    pointers,
    preparation_steps,
    sequence,
    terms,
    uid,
    word,
)
from datasets.slides.formats.dicom import tags

# Makers and models of whole slide scanners. Serial numbers and versions are left out.
# fmt: off
MANUFACTURERS = frozenset(
    [
        "3DHISTECH", "Aperio", "Akoya Biosciences", "Carl Zeiss Microscopy", "Carl Zeiss", "CytoScan", "Epredia",
        "Evident", "GE Healthcare", "Grundium", "Hamamatsu", "Hamamatsu Photonics", "Hamamatsu Photonics K.K.",
        "Huron", "Huron Digital Pathology", "KFBIO", "Konfoong Biotech", "Leica", "Leica Biosystems",
        "Leica Microsystems", "Microvisioneer", "Mikroscan", "Morphle", "Motic", "Nikon", "OBJECTIVE Imaging",
        "Olympus", "OptraSCAN", "Philips", "Philips Healthcare", "PHILIPS", "PreciPoint", "Roche",
        "Roche Diagnostics", "Sakura", "SQS", "UNIC", "Ventana", "Ventana Medical Systems", "Zeiss",
    ]
)
MODELS = frozenset(
    [
        "AT2", "AT Turbo", "Aperio AT2", "Aperio AT2 DX", "Aperio CS2", "Aperio CS", "Aperio GT 450",
        "Aperio GT450", "Aperio GT 450 DX", "Aperio GT450 DX", "Aperio LV1", "Aperio Versa", "GT450", "GT450 DX",
        "ScanScope", "ScanScope AT", "ScanScope CS", "ScanScope XT", "SCN400", "Axioscan 7", "Axio Scan.Z1",
        "NanoZoomer", "NanoZoomer S20", "NanoZoomer S20MD", "NanoZoomer S60", "NanoZoomer S60MD", "NanoZoomer S210",
        "NanoZoomer S360", "NanoZoomer S360MD", "NanoZoomer SQ", "NanoZoomer XR", "NanoZoomer-XR",
        "NanoZoomer 2.0-HT", "NanoZoomer 2.0-RS", "Pannoramic 250", "Pannoramic 250 Flash III", "Pannoramic 480 DX",
        "Pannoramic 1000", "Pannoramic DESK", "Pannoramic MIDI", "Pannoramic SCAN", "P250", "P1000",
        "Ultra Fast Scanner", "IntelliSite Ultra Fast Scanner", "UFS", "SG20", "SG60", "SG300", "VENTANA DP 200",
        "VENTANA DP 600", "DP 200", "DP 600", "iScan Coreo", "iScan HT", "VS120", "VS200", "SLIDEVIEW VS200",
        "Ocus", "Ocus 20", "Ocus 40", "EasyScan", "MoticEasyScan", "KF-PRO-005", "KF-PRO-020", "KF-PRO-120",
        "KF-PRO-400", "TissueScope LE", "TissueScope iQ",
    ]
)
# fmt: on
# where the standard wants a text and the original's is not known or not retained
REMOVED = b"REMOVED"

MAX_MILLIMETRES = 100.0  # a slide is 76 mm long
AXES = frozenset({tags.COLUMN_POSITION, tags.ROW_POSITION, tags.X_OFFSET, tags.Y_OFFSET, tags.Z_OFFSET})
DIMENSION_POINTERS = AXES | {tags.POSITION, tags.PATH_REFERENCE, tags.OPTICAL_PATH_IDENTIFIER}

_offsets: Table = {tag: decimals(-MAX_MILLIMETRES, MAX_MILLIMETRES) for tag in (tags.X_OFFSET, tags.Y_OFFSET)}
_measures: Table = {
    0x0018_0050: decimals(0, 10),  # SliceThickness
    tags.PLANE_SPACING: decimals(0, 1),
    tags.SPACING: decimals(1e-6, 1, count=2),
}
_path_reference = sequence({tags.OPTICAL_PATH_IDENTIFIER: constant("SH", b"1")})
FRAME_GROUPS: Table = {
    tags.MEASURES: sequence(_measures),
    0x0020_9111: sequence({0x0020_9157: numbers("UL", 0, 2**31, count=8)}),  # FrameContent: DimensionIndexValues
    tags.PATH_REFERENCE: _path_reference,
    tags.POSITION: sequence(
        {
            **_offsets,
            tags.Z_OFFSET: decimals(-100_000, 100_000),  # microns
            tags.COLUMN_POSITION: numbers("SL", 1, 2**31 - 1),
            tags.ROW_POSITION: numbers("SL", 1, 2**31 - 1),
        }
    ),
}
_optical_path: Table = {
    tags.ILLUMINATION: code_items,
    0x0022_0017: code_items,  # LightPathFilterTypeStackCodeSequence
    0x0022_0018: code_items,  # ImagePathFilterTypeStackCodeSequence
    0x0022_0019: code_items,  # LensesCodeSequence
    0x0022_0055: numbers("FL", 100, 2_000),  # IlluminationWaveLength
    tags.ICC_PROFILE: icc_profile,
    0x0028_2002: terms("SRGB", "ADOBERGB", "ROMMRGB"),  # ColorSpace
    tags.OPTICAL_PATH_IDENTIFIER: constant("SH", b"1"),
    0x0048_0108: code_items,  # IlluminationColorCodeSequence
    tags.LENS_POWER: decimals(0.1, 300),
    0x0048_0113: decimals(0.01, 3),  # ObjectiveLensNumericalAperture
}
_specimen: Table = {
    0x0040_0551: identifier("LO", "specimen"),
    0x0040_0554: uid,
    0x0040_059A: code_items,  # SpecimenTypeCodeSequence
    0x0040_0610: sequence({0x0040_0612: preparation_steps}),
}
HEADER: Table = {
    tags.IMAGE_TYPE: image_type(),
    tags.SOP_INSTANCE: uid,
    0x0008_0019: uid,  # PyramidUID
    0x0008_0050: identifier("SH", "accession"),
    0x0008_0070: names(MANUFACTURERS),
    0x0008_1090: names(MODELS),
    0x0018_9073: numbers("FD", 0, 1e6),  # AcquisitionDuration
    tags.STUDY: uid,
    tags.SERIES: uid,
    0x0020_0052: uid,  # FrameOfReferenceUID
    0x0020_1040: terms("SLIDE_CORNER", "MICROSCOPE"),  # PositionReferenceIndicator
    0x0020_4000: word("LT", b"SIMULATED"),  # ImageComments: a simulated slide keeps saying so
    0x0020_9221: sequence({0x0020_9164: uid}),  # DimensionOrganizationSequence
    0x0020_9222: sequence(  # DimensionIndexSequence
        {0x0020_9164: uid, 0x0020_9165: pointers(DIMENSION_POINTERS), 0x0020_9167: pointers(DIMENSION_POINTERS)}
    ),
    tags.ORGANISATION: terms("TILED_FULL", "TILED_SPARSE"),
    tags.SAMPLES: numbers("US", 1, 3),
    tags.PHOTOMETRIC: terms(
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
    ),
    tags.PLANAR: numbers("US", 0, 1),
    tags.ROWS: numbers("US", 1, 65_535),
    tags.COLUMNS: numbers("US", 1, 65_535),
    tags.BITS_ALLOCATED: numbers("US", 8, 16),
    tags.BITS_STORED: numbers("US", 1, 16),
    tags.HIGH_BIT: numbers("US", 0, 15),
    tags.SIGNED: numbers("US", 0, 0),
    **dict.fromkeys(tags.PALETTE_DESCRIPTORS, descriptor()),
    **dict.fromkeys(tags.PALETTE_DATA, lookup_table()),
    0x0028_2110: terms("00", "01"),  # LossyImageCompression
    0x0028_2112: decimals(0, 100_000, count=8),  # LossyImageCompressionRatio
    0x0028_2114: terms("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_2", "ISO_15444_15", values=8),
    0x0040_0512: identifier("LO", "container"),
    0x0040_0518: code_items,  # ContainerTypeCodeSequence
    0x0040_0560: sequence(_specimen),
    tags.VOLUME_WIDTH: numbers("FL", 0, MAX_MILLIMETRES),
    tags.VOLUME_HEIGHT: numbers("FL", 0, MAX_MILLIMETRES),
    tags.VOLUME_DEPTH: numbers("FL", 0, 100_000),  # microns
    tags.TOTAL_COLUMNS: numbers("UL", 1, 2**31),
    tags.TOTAL_ROWS: numbers("UL", 1, 2**31),
    tags.ORIGIN: sequence(_offsets),
    0x0048_0011: terms("AUTO", "MANUAL"),  # FocusMethod
    0x0048_0012: terms("YES", "NO"),  # ExtendedDepthOfField
    0x0048_0013: numbers("US", 1, 1_000),  # NumberOfFocalPlanes
    0x0048_0014: numbers("FL", 0, 1_000),  # DistanceBetweenFocalPlanes
    0x0048_0102: decimals(-1, 1, count=6),  # ImageOrientationSlide
    tags.OPTICAL_PATH: sequence(_optical_path),
    0x2050_0020: terms("IDENTITY", "INVERSE"),  # PresentationLUTShape
    tags.SHARED_GROUPS: sequence(
        {
            tags.MEASURES: sequence(_measures),
            0x0040_0710: sequence({0x0008_9007: image_type()}),  # WholeSlideMicroscopyImageFrameTypeSequence
            tags.PATH_REFERENCE: _path_reference,
        }
    ),
}


def _code(value: bytes, meaning: bytes) -> CopyDataset:
    return {tags.CODE_VALUE: ("SH", value), tags.CODE_SCHEME: ("SH", b"DCM"), tags.CODE_MEANING: ("LO", meaning)}


# Where the original has no such value: empty (type 2), or a dummy (type 1).
DEFAULTS: CopyDataset = {
    0x0008_0050: ("SH", b""),
    0x0008_0070: ("LO", REMOVED),
    0x0008_1090: ("LO", REMOVED),
    0x0040_0518: ("SQ", []),
}
# In every copy: what the profile did, empty values of type 2, and dummies for dates and texts of type 1: a day before
# there were slides.
FIXED: CopyDataset = {
    0x0008_0005: ("CS", b"ISO_IR 192"),
    tags.SOP_CLASS: ("UI", tags.WSI_SOP_CLASS.encode()),
    0x0008_0020: ("DA", b""),  # StudyDate
    0x0008_0023: ("DA", b"16000101"),  # ContentDate
    0x0008_002A: ("DT", b"16000101"),  # AcquisitionDateTime
    0x0008_0030: ("TM", b""),  # StudyTime
    0x0008_0033: ("TM", b"000000"),  # ContentTime
    0x0008_0060: ("CS", b"SM"),
    0x0008_0090: ("PN", b""),  # ReferringPhysicianName
    0x0008_9206: ("CS", b"VOLUME"),  # VolumetricProperties
    0x0010_0010: ("PN", b""),
    0x0010_0020: ("LO", b""),
    0x0010_0030: ("DA", b""),
    0x0010_0040: ("CS", b""),
    0x0012_0062: ("CS", b"YES"),  # PatientIdentityRemoved
    0x0012_0063: ("LO", b"PS3.15 E.1 by retained attributes"),  # DeidentificationMethod
    0x0012_0064: (
        "SQ",
        [
            _code(b"113100", b"Basic Application Confidentiality Profile"),
            _code(b"113103", b"Clean Graphics Option"),
            _code(b"113105", b"Clean Descriptors Option"),
        ],
    ),
    0x0018_1000: ("LO", REMOVED),  # DeviceSerialNumber
    0x0018_1020: ("LO", REMOVED),  # SoftwareVersions
    0x0020_0010: ("SH", b""),  # StudyID
    0x0020_0011: ("IS", b""),  # SeriesNumber
    0x0028_0301: ("CS", b"NO"),  # BurnedInAnnotation
    0x0028_0302: ("CS", b"NO"),  # RecognizableVisualFeatures
    0x0028_0303: ("CS", b"REMOVED"),  # LongitudinalTemporalInformationModified
    0x0040_0513: ("SQ", []),  # IssuerOfTheContainerIdentifierSequence
    0x0040_0555: ("SQ", []),  # AcquisitionContextSequence
    0x0048_0010: ("CS", b"NO"),  # SpecimenLabelInImage
}
