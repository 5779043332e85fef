"""A slide whose scale is doubtful waits for a person; what they confirm is used, and logged under their name."""

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.scale import ScaleStatement
from serving.core.db.schema import LOG_LEAVES
from serving.pathology.slides import scale
from serving.pathology.slides import store as slide_store
from tests.serving.core.audit.auditor.audit_helpers import findings
from tests.serving.pathology.conftest import problem, put_slide

MPP = ScaleStatement("Aperio MPP", 0.25, 0.25)
RESOLUTION = ScaleStatement("XResolution, YResolution", 0.5, 0.5)
REASON = scale.confirmation_reason([MPP, RESOLUTION], None)


def wait(gateway, reason=REASON):
    slide = put_slide(gateway, "verifying")
    slide_store.transition(gateway.service.store.engine, slide, "awaiting_scale", reasons=[reason])
    return slide


def test_both_values_are_displayed_with_their_sources(clinic):
    async def story(client, gateway):
        slide = (await client.get(f"/v1/slides/{wait(gateway)}")).json()
        assert (slide["state"], slide["state_zh"], slide["code"]) == ("awaiting_scale", "待确认比例", "scale_conflict")
        (reason,) = slide["reasons"]
        assert reason["scales"] == [
            {"source": "Aperio MPP", "x": 0.25, "y": 0.25},
            {"source": "XResolution, YResolution", "x": 0.5, "y": 0.5},
        ]
        assert all(text in reason[language] for language in ("en", "zh") for text in ("0.25", "0.5", "Aperio MPP"))

    clinic.run(story)


def test_a_confirmed_scale_is_used_and_logged_with_who_confirmed_it(clinic):
    async def story(client, gateway):
        slide = wait(gateway)
        response = await client.post(f"/v1/slides/{slide}/scale", json={"mpp": 0.25})
        assert response.status_code == 200
        row = response.json()
        assert (row["state"], row["mpp"], row["reasons"], row["code"]) == ("verifying", 0.25, [], None)
        assert [note["code"] for note in row["notes"]] == ["scale_confirmed"]
        event = slide_store.events_after(gateway.service.store.engine, slide)[-1]["detail"]
        assert (event["code"], event["mpp"], event["by"]) == ("scale_confirmed", 0.25, "local")
        assert event["reasons"][0]["scales"][1]["x"] == 0.5
        with gateway.service.store.engine.connect() as connection:
            leaves = connection.execute(
                sa.select(LOG_LEAVES.c.kind, LOG_LEAVES.c.ref).order_by(LOG_LEAVES.c.index)
            ).all()
            assert findings(connection, gateway.settings) == []
        assert tuple(leaves[-1]) == ("slide_state", slide)

    clinic.run(story)


def test_a_scale_is_confirmed_once_and_only_where_it_is_waited_for(clinic):
    async def story(client, gateway):
        slide = wait(gateway)
        for mpp in (0, -1, 1e6, "0.25", None):
            assert problem(await client.post(f"/v1/slides/{slide}/scale", json={"mpp": mpp})) == (
                422,
                "invalid_request",
            )
        assert (await client.post(f"/v1/slides/{slide}/scale", json={"mpp": 0.5})).status_code == 200
        assert problem(await client.post(f"/v1/slides/{slide}/scale", json={"mpp": 0.25})) == (409, "slide_state")
        ready = put_slide(gateway, "ready")
        assert problem(await client.post(f"/v1/slides/{ready}/scale", json={"mpp": 0.25})) == (409, "slide_state")
        unknown = await client.post(f"/v1/slides/{'0' * 32}/scale", json={"mpp": 0.25})
        assert problem(unknown) == (404, "unknown_slide")

    clinic.run(story)


def test_a_slide_that_waits_can_be_cancelled(clinic):
    async def story(client, gateway):
        response = await client.post(f"/v1/slides/{wait(gateway)}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")

    clinic.run(story)


@pytest.mark.parametrize(
    ("statements", "requested", "waits"),
    [
        ([], None, True),  # nothing states it
        ([ScaleStatement("Aperio AppMag", 0.25, 0.25, is_magnification=True)], None, True),  # it is no scale
        ([], 0.25, False),
        ([MPP], None, False),
        ([MPP], 0.25, False),
        ([MPP], 0.5, True),  # the sender contradicts the file
        ([MPP, RESOLUTION], None, True),
        ([MPP, RESOLUTION], 0.25, False),  # the sender has decided between the two
        ([MPP, RESOLUTION], 1.0, True),
        ([ScaleStatement("Aperio AppMag", 0.25, 0.25, is_magnification=True)], 1.0, True),
        ([ScaleStatement("Aperio AppMag", 0.25, 0.25, is_magnification=True)], 0.23, False),
    ],
)
def test_a_slide_waits_where_nothing_states_its_scale_or_two_statements_differ(statements, requested, waits):
    assert (scale.confirmation_reason(statements, requested) is not None) == waits


scales = st.floats(SLIDE_LIMITS.finest_mpp, SLIDE_LIMITS.coarsest_mpp)


@given(st.lists(st.builds(ScaleStatement, st.just("A"), scales, scales), min_size=1, max_size=4), scales)
def test_a_senders_value_never_overrides_a_file_silently_unless_it_states_it(statements, requested):
    stated = any(
        max(each.x / requested, requested / each.x, each.y / requested, requested / each.y) <= 1.02 + 1e-9
        for each in statements
    )
    assert (scale.confirmation_reason(statements, requested) is None) == stated
