"""Which negatives are re-read blind."""

from serving.pathology.blinded_rereads import KEY_FILE, BlindedRereads


def test_about_the_stated_share_of_slides_is_drawn_always_the_same_ones(tmp_path):
    first, second = (BlindedRereads(tmp_path, 0.1) for _ in range(2))
    slides = [f"{number:032x}" for number in range(3_000)]
    drawn = [slide for slide in slides if first.includes(slide)]
    assert 200 < len(drawn) < 400
    assert drawn == [slide for slide in slides if second.includes(slide)]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
