"""A bundle is loaded as it was signed, or not at all."""

import json
import shutil

import pytest

from models import bundle
from models.card import Card, ContributionReference, ScoreHead


def card(**changes):
    return Card(
        product="credit_limit",
        model="credit_limit",
        version="1",
        created="2026-01-01T00:00:00Z",
        simulated=True,
        purpose="test",
        not_for="anything else",
        inputs=(),
        target="default_12m",
        head=ScoreHead(slope=1.0, intercept=0.0, bias=0.0),
        reference=ContributionReference(points=(), contributions=()),
        **changes,
    )


@pytest.fixture
def keys(tmp_path):
    return bundle.create_signing_keys(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path, keys):
    return bundle.write_bundle(
        tmp_path / "credit_limit" / "1", graph=b"graph" * 40, card=card(), policy=b"name = 'p'\n", private_key=keys[0]
    )


def test_what_was_written_comes_back_with_one_digest(folder, keys):
    first, second = bundle.load_bundle(folder, keys[1]), bundle.load_bundle(folder, keys[1])
    assert (first.graph, first.policy, first.card) == (b"graph" * 40, b"name = 'p'\n", card())
    assert first.digest == second.digest
    assert len(first.digest) == 64


def test_the_private_key_is_readable_by_its_owner_alone(keys):
    assert keys[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", [*bundle.REQUIRED_FILES, bundle.SIGNATURE])
def test_one_flipped_bit_in_any_file_is_refused(folder, keys, name):
    content = (folder / name).read_bytes()
    for position in range(0, len(content), max(1, len(content) // 25)):
        changed = bytearray(content)
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(bundle.BundleError):
            bundle.load_bundle(folder, keys[1])
    (folder / name).write_bytes(content)
    bundle.load_bundle(folder, keys[1])


@pytest.mark.parametrize("name", [*bundle.REQUIRED_FILES, bundle.SIGNATURE])
def test_an_absent_file_is_refused_by_name(folder, keys, name):
    (folder / name).unlink()
    with pytest.raises(bundle.BundleError, match="exactly card.json, model.onnx, model.sig, policy.toml is needed"):
        bundle.load_bundle(folder, keys[1])


@pytest.mark.parametrize("extra", ["weights.pkl", "model.onnx.data", "model.joblib", ".git", "README.md"])
def test_an_extra_file_is_refused(folder, keys, extra):
    (folder / extra).write_bytes(b"\x80\x05")
    with pytest.raises(bundle.BundleError, match="exactly"):
        bundle.load_bundle(folder, keys[1])


def test_a_linked_file_is_refused(folder, keys, tmp_path):
    (tmp_path / "elsewhere").write_bytes((folder / bundle.GRAPH).read_bytes())
    (folder / bundle.GRAPH).unlink()
    (folder / bundle.GRAPH).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(bundle.BundleError, match="link"):
        bundle.load_bundle(folder, keys[1])


def test_another_key_is_refused(folder, tmp_path):
    _, stranger = bundle.create_signing_keys(tmp_path / "stranger")
    with pytest.raises(bundle.BundleError, match="signature does not hold"):
        bundle.load_bundle(folder, stranger)


def test_files_of_two_signed_bundles_cannot_be_mixed(folder, keys):
    other = bundle.write_bundle(
        folder.parent / "2", graph=b"other", card=card(), policy=b"name = 'q'\n", private_key=keys[0]
    )
    shutil.copy(other / bundle.POLICY, folder / bundle.POLICY)
    with pytest.raises(bundle.BundleError):
        bundle.load_bundle(folder, keys[1])


def test_an_unsigned_statement_is_refused(folder, keys):
    signature = json.loads((folder / bundle.SIGNATURE).read_text())
    signature["dsseEnvelope"]["signatures"] = []
    (folder / bundle.SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(bundle.BundleError):
        bundle.load_bundle(folder, keys[1])


def test_a_bundle_is_never_overwritten_and_a_failed_write_leaves_nothing(folder, keys):
    with pytest.raises(FileExistsError):
        bundle.write_bundle(folder, graph=b"", card=card(), policy=b"", private_key=keys[0])
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the signer says of a key that is not there)
        bundle.write_bundle(
            folder.parent / "9", graph=b"", card=card(), policy=b"", private_key=keys[0].parent / "none.pem"
        )
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1"]


def test_an_alias_means_one_version_and_only_one_that_exists(folder):
    models = folder.parent
    assert bundle.read_alias(models) is None
    bundle.set_alias(models, "champion", "1")
    assert bundle.read_alias(models) == "1"
    with pytest.raises(bundle.BundleError, match="no such bundle"):
        bundle.set_alias(models, "champion", "7")
    assert bundle.read_alias(models) == "1"


def test_a_further_graph_is_signed_too_and_one_of_another_name_is_no_part_of_a_bundle(tmp_path, keys):
    made = bundle.write_bundle(
        tmp_path / "two",
        graph=b"one",
        card=card(),
        policy=b"",
        private_key=keys[0],
        extra_graphs={"slide.onnx": b"two"},
    )
    assert bundle.load_bundle(made, keys[1]).extra_graphs == {"slide.onnx": b"two"}
    (made / "slide.onnx").write_bytes(b"twO")
    with pytest.raises(bundle.BundleError):
        bundle.load_bundle(made, keys[1])
    (made / "slide.onnx").unlink()
    with pytest.raises(bundle.BundleError):
        bundle.load_bundle(made, keys[1])
    with pytest.raises(ValueError, match=r"other\.onnx"):
        bundle.write_bundle(
            tmp_path / "3", graph=b"", card=card(), policy=b"", private_key=keys[0], extra_graphs={"other.onnx": b""}
        )
