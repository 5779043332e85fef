"""A later checkpoint is shown to continue an earlier one, and one that does not is never accepted."""

from __future__ import annotations

import json

from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from serving.__main__ import app
from serving.core.audit.checkpoints import roots_from_consistency_proof, verify_consistency
from serving.core.audit.log import MerkleTree
from serving.core.audit.verify import VerificationError, leaf_hash, load_public_key, verify_checkpoint
from tests.serving.conftest import environment, run_inside
from tests.serving.core.audit.test_log import reference_root

URL = "/v1/credit-limits"
LEAVES = [leaf_hash(str(i).encode()) for i in range(200)]


def tree_over(leaves: list[bytes]) -> MerkleTree:
    tree = MerkleTree(None)  # type: ignore[arg-type]  # every leaf is known, and no subtree is large enough to be stored
    tree._nodes = {(0, i): leaf for i, leaf in enumerate(leaves)}
    return tree


@given(data=st.data())
@hypothesis_settings(max_examples=300)
def test_the_proof_between_any_two_sizes_leads_to_both_roots(data):
    second = data.draw(st.integers(1, len(LEAVES)))
    first = data.draw(st.integers(1, second))
    path = tree_over(LEAVES).consistency_path(first, second)
    expected = reference_root(LEAVES[:first]), reference_root(LEAVES[:second])
    assert roots_from_consistency_proof(first, second, expected[0], path) == expected


@given(data=st.data())
@hypothesis_settings(max_examples=300)
def test_no_other_history_sizes_or_hashes_lead_to_both_roots(data):
    second = data.draw(st.integers(2, len(LEAVES)))
    first = data.draw(st.integers(1, second))
    roots = reference_root(LEAVES[:first]), reference_root(LEAVES[:second])
    sizes, path = (first, second), tree_over(LEAVES).consistency_path(first, second)
    change = data.draw(st.sampled_from(["history", "sizes", "hash", "shorter", "longer"]))
    if change == "history":  # an entry that both have was replaced in the later one
        i = data.draw(st.integers(0, first - 1))
        changed = [*LEAVES[:i], leaf_hash(b"another"), *LEAVES[i + 1 : second]]
        roots, path = (roots[0], reference_root(changed)), tree_over(changed).consistency_path(first, second)
    elif change == "sizes":
        sizes = data.draw(st.integers(-1, 300)), data.draw(st.integers(-1, 300))
        assume(sizes != (first, second) and not (sizes[0] == sizes[1] and first == second))
    elif change == "hash":
        assume(path)
        i = data.draw(st.integers(0, len(path) - 1))
        path = [*path[:i], leaf_hash(path[i]), *path[i + 1 :]]
    elif change == "shorter":
        assume(path)
        path = path[: data.draw(st.integers(0, len(path) - 1))]
    else:
        path = [*path, leaf_hash(b"another")]
    try:
        actual = roots_from_consistency_proof(*sizes, roots[0], path)
    except VerificationError:
        return
    assert actual != roots or (change == "sizes" and sizes[0] == first)  # sizes alone are signed: they are the notes'


def test_an_auditor_follows_the_log_from_a_checkpoint_that_was_kept(
    bundles, made, tmp_path, settings, applicant, monkeypatch
):
    async def story(client, gateway):
        await client.post(URL, json={"indicators": applicant})
        earlier = (await client.get("/v1/log/checkpoint")).text
        for _ in range(3):
            assert (await client.post(URL, json={"indicators": applicant})).status_code == 200
        key = load_public_key(settings.paths.log_key.with_suffix(".pub.pem").read_bytes())
        size = verify_checkpoint(earlier, key).size
        proof = await client.get("/v1/log/consistency", params={"size": size})
        assert proof.status_code == 200, proof.text
        first, second = verify_consistency(earlier, proof.json(), key)
        assert second.size > first.size == size
        too_large = await client.get("/v1/log/consistency", params={"size": second.size + 50})
        none = await client.get("/v1/log/consistency", params={"size": 0})
        assert (too_large.status_code, none.status_code) == (404, 422)
        return earlier, proof.content

    earlier, proof = run_inside(settings, story)
    for name, value in environment(bundles, made, tmp_path).items():
        monkeypatch.setenv(name, value)
    for name, content in (("earlier", earlier.encode()), ("proof.json", proof)):
        (tmp_path / name).write_bytes(content)
    command = ["audit", "consistency", str(tmp_path / "earlier"), str(tmp_path / "proof.json")]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, "the log continues" in result.stdout) == (0, True), result.output
    document = json.loads(proof)
    for altered in (
        document | {"proof": document["proof"][:-1]},
        document | {"proof": ["zz"]},
        document | {"checkpoint": earlier + "x"},
        {"proof": []},
        [],
    ):
        (tmp_path / "proof.json").write_text(json.dumps(altered))
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, "NOT CONSISTENT" in result.stderr) == (1, True), result.output


def test_two_histories_that_one_key_signed_are_told_apart():
    """A store and its checkpoints that were put back to an earlier day, and went on from there."""
    signed, other = reference_root(LEAVES[:150]), [*LEAVES[:100], *LEAVES[:100]]
    path = tree_over(other).consistency_path(150, 190)
    assert roots_from_consistency_proof(150, 190, signed, path) != (signed, reference_root(other[:190]))
