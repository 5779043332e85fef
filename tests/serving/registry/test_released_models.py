"""The models that ship are installed as they were released, or not at all."""

import lzma
import tarfile
from io import BytesIO

import pytest

from models import bundle
from models.bundle import BundleError, read_alias
from models.bundle_archive import pack
from models.card import Card, ContributionReference, ScoreHead
from models.evaluation_summary import GateVerdict
from serving.registry.released_models import find_archives, install, read_archive
from training.release import release_models

MODEL, VERSION = "credit_limit", "20260101-000000-abcdef"


def card(**changes):
    fields = {
        "product": "credit_limit",
        "model": MODEL,
        "version": VERSION,
        "created": "2026-01-01T00:00:00Z",
        "simulated": True,
        "purpose": "test 测试",
        "not_for": "anything else",
        "inputs": (),
        "target": "default_12m",
        "head": ScoreHead(slope=1.0, intercept=0.0, bias=0.0),
        "reference": ContributionReference(points=(), contributions=()),
        "verdict": GateVerdict(passed=True, checks=()),
    }
    return Card(**{**fields, **changes})


def train(var, version=VERSION, **changes):
    private, _ = bundle.create_signing_keys(var / "keys")
    folder = var / "bundles" / MODEL / version
    changes = {"version": version, **changes}
    bundle.write_bundle(folder, graph=b"graph" * 400, card=card(**changes), policy=b"a = 1\n", private_key=private)
    bundle.set_alias(folder.parent, "champion", version)
    return folder


@pytest.fixture
def var(tmp_path):
    train(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def released(tmp_path, var):
    folder = tmp_path / "released"
    list(release_models([MODEL], var, tmp_path / "secret" / "release.pem", folder))
    return folder


@pytest.fixture
def other(tmp_path):
    """Another installation: its bundles, and its own key."""
    return tmp_path / "other" / "bundles", bundle.create_signing_keys(tmp_path / "other" / "keys")


def test_a_released_model_keeps_its_digest_and_is_signed_with_the_installations_key(released, var, other):
    bundles, (private, public) = other
    (installed,) = install(bundles, private, released)
    there = bundle.load_bundle(bundles / MODEL / VERSION, public)
    trained = bundle.load_bundle(var / "bundles" / MODEL / VERSION, var / "keys/signing.pub.pem")
    assert there == trained
    assert installed.digest == there.digest == trained.digest
    assert (installed.model, installed.version, installed.files, installed.simulated) == (MODEL, VERSION, 3, True)
    assert read_alias(bundles / MODEL) == VERSION


def test_a_name_that_has_a_champion_is_left_alone(released, other, tmp_path):
    bundles, (private, _) = other
    train(tmp_path / "other", "mine")
    assert install(bundles, private, released) == []
    assert read_alias(bundles / MODEL) == "mine"


def test_the_private_half_of_the_release_key_does_not_ship(released):
    assert sorted(path.name for path in released.rglob("*") if path.is_file()) == [
        f"{VERSION}.tar.xz",
        "release.pub.pem",
    ]


def files_of(archive):
    with tarfile.open(archive) as opened:
        return {entry.name: opened.extractfile(entry).read() for entry in opened}


@pytest.mark.parametrize("name", [*bundle.REQUIRED_FILES, bundle.SIGNATURE])
def test_one_flipped_bit_in_any_file_is_refused_in_a_sentence(released, other, name):
    bundles, (private, _) = other
    (archive,) = find_archives(released).values()
    files = files_of(archive)
    changed = bytearray(files[name])
    changed[len(changed) // 2] ^= 1
    archive.write_bytes(pack(files | {name: bytes(changed)}))
    with pytest.raises(BundleError) as refused:
        install(bundles, private, released)
    message = str(refused.value)
    assert "is not the bundle that was released, so it is not installed" in message
    assert "make train" in message
    assert "未安装" in message
    assert "/yuheng-release-" not in message, "a scratch folder means nothing to a reader"
    assert read_alias(bundles / MODEL) is None
    assert not (bundles / MODEL).exists()


def test_a_bundle_of_another_signer_is_refused(released, other, tmp_path):
    bundles, (private, public) = other
    (archive,) = find_archives(released).values()
    files = files_of(archive)
    folder = bundle.sign_bundle(tmp_path / "forged", {n: c for n, c in files.items() if n != bundle.SIGNATURE}, private)
    archive.write_bytes(pack(files | {bundle.SIGNATURE: (folder / bundle.SIGNATURE).read_bytes()}))
    with pytest.raises(BundleError, match=r"signature does not hold for release\.pub\.pem"):
        read_archive(archive, released / "release.pub.pem")


def test_an_archive_that_would_write_elsewhere_is_refused(released, other, tmp_path):
    (archive,) = find_archives(released).values()
    for entry in (tarfile.TarInfo("../../escaped"), tarfile.TarInfo("/escaped"), tarfile.TarInfo("code.py")):
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(entry)
        archive.write_bytes(lzma.compress(buffer.getvalue()))
        with pytest.raises(BundleError, match="not a file of a bundle"):
            read_archive(archive, released / "release.pub.pem")
    link = tarfile.TarInfo("model.onnx")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(link)
    archive.write_bytes(lzma.compress(buffer.getvalue()))
    with pytest.raises(BundleError, match="not a file of a bundle"):
        read_archive(archive, released / "release.pub.pem")


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_an_archive_that_was_cut_short_is_refused(released, cut):
    (archive,) = find_archives(released).values()
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(BundleError, match="Fetch it again"):
        read_archive(archive, released / "release.pub.pem")


def test_an_archive_under_another_name_is_refused(released):
    (archive,) = find_archives(released).values()
    moved = archive.with_name("20270101-000000-ffffff.tar.xz")
    archive.rename(moved)
    with pytest.raises(BundleError, match="its card says"):
        read_archive(moved, released / "release.pub.pem")


def test_without_the_release_key_nothing_is_installed(released, other):
    bundles, (private, _) = other
    (released / "release.pub.pem").unlink()
    with pytest.raises(BundleError, match="nothing shows who released"):
        install(bundles, private, released)


def test_a_new_version_replaces_the_released_one(released, var, tmp_path):
    train(var, "20270101-000000-aaaaaa")
    (archive,) = release_models([MODEL], var, tmp_path / "secret" / "release.pem", released)
    assert [path.name for path in (released / MODEL).iterdir()] == [archive.archive.name]
    assert archive.packed < archive.unpacked


def test_what_the_gate_refused_is_not_released(var, tmp_path):
    train(var, "refused", verdict=GateVerdict(passed=False, checks=()))
    with pytest.raises(BundleError, match="did not pass the gate"):
        list(release_models([MODEL], var, tmp_path / "release.pem", tmp_path / "released"))
    assert not (tmp_path / "released").exists()


def test_another_release_key_does_not_replace_the_one_that_ships_unasked(released, var, tmp_path):
    with pytest.raises(BundleError, match="--new-key"):
        list(release_models([MODEL], var, tmp_path / "new" / "release.pem", released))
    list(release_models([MODEL], var, tmp_path / "new" / "release.pem", released, new_key=True))
    assert read_archive(*find_archives(released).values(), released / "release.pub.pem")


def test_a_model_without_a_champion_is_released_again_as_it_ships_under_a_new_key(released, tmp_path):
    before, _ = read_archive(*find_archives(released).values(), released / "release.pub.pem")
    (again,) = release_models([MODEL], tmp_path / "none", tmp_path / "new" / "release.pem", released, new_key=True)
    after, _ = read_archive(*find_archives(released).values(), released / "release.pub.pem")
    assert (again.version, again.digest, after.files) == (VERSION, before.digest, before.files)


def test_a_model_that_was_never_released_needs_a_champion(tmp_path):
    with pytest.raises(BundleError, match="neither a champion nor one archive"):
        list(release_models([MODEL], tmp_path / "none", tmp_path / "release.pem", tmp_path / "released"))


def test_the_same_files_make_the_same_archive():
    files = {"card.json": b"{}", "model.onnx": b"1" * 1000}
    assert pack(files) == pack(dict(reversed(files.items())))
