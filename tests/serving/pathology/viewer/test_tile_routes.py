"""Tiles, heatmaps and annotations over HTTP; a browser displays them in tests/browser."""

from __future__ import annotations

from datasets.slides.simulate import writers
from datasets.slides.simulate.slides import simulate_slide
from serving.core.http.request import etag_matches, make_etag
from serving.pathology.slides import store as slide_store
from tests.serving.pathology import fake_readings
from tests.serving.pathology.conftest import FORM, put_read_slide


def test_tiles_of_slide_and_heatmap_are_served_and_then_cached(clinic):
    async def story(client, gateway):
        path = f"/v1/slides/{put_read_slide(gateway)}"
        for address, media_type in (
            ("image.dzi", "application/xml"),
            ("image_files/12/3_4.jpeg", "image/jpeg"),
            ("heatmap.dzi", "application/xml"),
            ("heatmap_files/12/3_4.png", "image/png"),
        ):
            response = await client.get(f"{path}/{address}")
            assert (response.status_code, response.headers["content-type"]) == (200, media_type), address
            assert response.headers["cache-control"].startswith("private")
            again = await client.get(f"{path}/{address}", headers={"If-None-Match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b""), address
        for address in ("image_files/12/99_0.jpeg", "image_files/12/0_0.png", "image_files/x/0_0.jpeg"):
            assert (await client.get(f"{path}/{address}")).status_code == 404, address

    clinic.run(story)


def test_a_tile_of_a_stack_is_served_in_each_plane_and_one_that_it_lacks_is_refused(clinic, tmp_path):
    async def story(client, gateway):
        slide = put_read_slide(gateway)
        folder = gateway.settings.paths.slides / slide / "slide"
        (folder / fake_readings.CMU.name).unlink()
        writers.write_dicom(folder, simulate_slide(seed=5, label="HSIL", columns=4, rows=2), planes=3)
        path = f"/v1/slides/{slide}/image_files/10/0_0.jpeg"
        sharpest, *planes = [
            await client.get(path + query) for query in ("", *(f"?plane={plane}" for plane in (1, 2, 3)))
        ]
        assert [each.status_code for each in (sharpest, *planes)] == [200] * 4
        assert sharpest.content == planes[0].content, "the first plane is sharp at the left"
        assert len({each.content for each in planes}) == len({each.headers["etag"] for each in planes}) == 3
        for plane in ("0", "4", "x", "-1"):
            refused = await client.get(f"{path}?plane={plane}")
            assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "plane"), plane

    clinic.run(story)


def test_annotations_hold_the_tiles_at_or_above_the_requested_threshold(clinic):
    async def story(client, gateway):
        path = f"/v1/slides/{put_read_slide(gateway)}/annotations.geojson"
        small, large = [(await client.get(f"{path}?threshold={threshold}")).json() for threshold in ("0.9", "0.1")]
        assert len(evidence := fake_readings.READING["evidence"]) < len(small["features"]) < len(large["features"])
        assert small["features"][0]["properties"]["name"].startswith(f"1 {evidence[0]['code']}")
        refused = await client.get(f"{path}?threshold=most")
        assert refused.json()["errors"][0]["field"] == "threshold"

    clinic.run(story)


def test_a_slide_that_cannot_be_displayed_yet_is_a_state_problem(clinic):
    async def story(client, gateway):
        slide_store.create(gateway.service.store.engine, "1" * 32, **FORM, request=FORM, name="a.svs")
        for address in ("image.dzi", "heatmap.dzi", "annotations.geojson"):
            response = await client.get(f"/v1/slides/{'1' * 32}/{address}")
            assert response.status_code == 409
            assert response.json()["type"] == "/problems/slide_state"
            assert (await client.get(f"/v1/slides/{'2' * 32}/{address}")).status_code == 404

    clinic.run(story)


def test_a_file_that_cannot_be_decoded_is_a_problem(clinic):
    async def story(client, gateway):
        slide = put_read_slide(gateway)
        (file,) = (gateway.settings.paths.slides / slide / "slide").iterdir()
        file.write_bytes(b"no slide")
        response = await client.get(f"/v1/slides/{slide}/image_files/12/0_0.jpeg")
        assert (response.status_code, response.json()["type"]) == (422, "/problems/slide_unreadable")

    clinic.run(story)


def test_an_etag_matches_itself_in_every_form_of_if_none_match():
    etag = make_etag("slide", "model", 3)
    assert etag == make_etag("slide", "model", 3) != make_etag("slide", "model", 4)
    assert etag_matches(etag, etag)
    assert etag_matches(etag, f'"other", W/{etag}')
    assert etag_matches(etag, "*")
    assert not etag_matches(etag, '"other"')
    assert not etag_matches(etag, None)
