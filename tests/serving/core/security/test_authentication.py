"""A browser's session: a cookie that counts as the token, for our own pages' requests alone."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from serving.core.security.authentication import COOKIE_NAME
from serving.pathology.slides import store as slide_store
from tests.serving.conftest import bearer_of, run_inside, settings_for
from tests.serving.core.security.test_permissions import guarded  # noqa: F401  # fixture
from tests.serving.pathology.conftest import put_slide

CHEN = {"name": "Chen Lan 陈岚", "licence": "110330100001234"}
HERE = {"Sec-Fetch-Site": "same-origin"}


def token(gateway, *roles: str, **more: str) -> str:
    return bearer_of(gateway.settings, *roles, tenant="lab", **more)["Authorization"].partition(" ")[2]


async def signed_in(client, gateway, *roles: str, **more: str) -> dict[str, str]:
    """The cookie's header; the client itself forgets it."""
    begun = await client.post("/v1/session", json={"token": token(gateway, *roles, **more)}, headers=HERE)
    assert begun.status_code == 200, begun.text
    cookie = begun.headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    return {"Cookie": f"other=1; {cookie}"}


def test_a_session_is_the_token_in_a_cookie_that_no_script_and_no_other_site_gets(guarded):  # noqa: F811
    async def story(client, gateway):
        given = token(gateway, "pathologist", **CHEN)
        begun = await client.post("/v1/session", json={"token": given}, headers=HERE)
        assert begun.json() == {"tenant": "lab", "roles": ["pathologist"], "who": "pathologist", **CHEN}
        value, *flags = begun.headers["set-cookie"].split("; ")
        assert value == f"{COOKIE_NAME}={given}"
        assert {"Path=/", "HttpOnly", "SameSite=Strict"} < set(flags)
        [age] = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("Max-Age")]
        assert 11 * 3_600 < age <= 12 * 3_600
        assert (await client.get("/v1/session")).json()["tenant"] == "lab"
        assert (await client.get("/v1/slides")).json() == {"slides": [], "next": None}
        ended = await client.delete("/v1/session", headers=HERE)
        assert ended.status_code == 204
        assert "Max-Age=0" in ended.headers["set-cookie"]
        assert (await client.get("/v1/slides")).status_code == 401

    guarded.run(story)


def test_under_tls_the_cookie_goes_over_no_other_line(bundles, made, tmp_path):
    told = {"YUHENG_TLS_CERTIFICATE": "a.pem", "YUHENG_TLS_KEY": "b.pem", "YUHENG_ACCESS_REQUIRED": "true"}

    async def story(client, gateway):
        begun = await client.post("/v1/session", json={"token": token(gateway, "bank")}, headers=HERE)
        assert "Secure" in begun.headers["set-cookie"].split("; ")

    run_inside(settings_for(bundles, made, tmp_path, **told), story)


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        (HERE, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://gateway"}, True),
        ({"Origin": "http://gateway.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://gateway"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_change_anything_by_a_cookie(guarded, headers, fine):  # noqa: F811
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review", tenant="lab")
        cookie = await signed_in(client, gateway, "pathologist", "clinic", **CHEN)
        said = {"diagnosis": "NILM", "findings": "x"}
        found = await client.post(f"/v1/slides/{slide}/sign", json=said, headers=cookie | headers)
        assert found.status_code == (200 if fine else 403), found.text
        if not fine:
            assert found.json()["type"] == "/problems/cross_site"
        assert slide_store.get(gateway.service.store.engine, slide)["state"] == ("signed" if fine else "in_review")

    guarded.gateway.pathology.signing_routes.render = lambda body: b"%PDF"
    guarded.run(story)


def test_a_session_is_begun_by_our_own_pages_alone(guarded):  # noqa: F811
    async def story(client, gateway):
        body = {"token": token(gateway, "bank")}
        crossed = await client.post("/v1/session", json=body, headers={"Sec-Fetch-Site": "cross-site"})
        assert crossed.status_code == 403
        form = await client.post("/v1/session", data=body)
        assert form.status_code == 415
        for wrong in ({"token": "x"}, {"token": ""}, {"token": 5}, {}, {**body, "more": 1}, {"token": "陈"}):
            found = await client.post("/v1/session", json=wrong)
            assert (found.status_code, found.json()["type"]) == (401, "/problems/bad_token")
        assert (await client.post("/v1/session", json={"token": "x" * 1_000_000})).status_code == 413
        assert (
            await client.post("/v1/session", content=b"{", headers={"Content-Type": "application/json"})
        ).status_code == 400
        assert not client.cookies

    guarded.run(story)


def test_a_page_that_shows_another_person_than_the_cookie_s_does_nothing(guarded):  # noqa: F811
    """Tabs share the cookie: who signs in in one does not sign through the other."""

    def shown(name: str) -> dict[str, str]:
        told = "lab", "pathologist", name, CHEN["licence"]
        return {"Shown-To": "/".join(quote(part, safe="") for part in told), **HERE}

    async def story(client, gateway):
        cookie = await signed_in(client, gateway, "pathologist", **CHEN)
        assert (await client.get("/v1/slides", headers=cookie | shown(CHEN["name"]))).status_code == 200
        for other in (shown("王/五"), {**HERE, "Shown-To": ""}, {**HERE, "Shown-To": "%zz/%ff"}):
            slide = put_slide(gateway, "in_review", tenant="lab")
            said = {"diagnosis": "NILM", "findings": "x"}
            found = await client.post(f"/v1/slides/{slide}/sign", json=said, headers=cookie | other)
            assert (found.status_code, found.json()["type"]) == (409, "/problems/another_person")
            assert slide_store.get(gateway.service.store.engine, slide)["state"] == "in_review"
        assert "Chen Lan 陈岚" in found.json()["detail_zh"]
        bearer = bearer_of(gateway.settings, "pathologist", tenant="lab", **CHEN)
        assert (await client.get("/v1/slides", headers=bearer | shown("王五"))).status_code == 200
        assert (await client.delete("/v1/session", headers=cookie | shown("王五"))).status_code == 204

    guarded.run(story)


def test_a_bearer_token_goes_before_a_cookie(guarded):  # noqa: F811
    async def story(client, gateway):
        cookie = await signed_in(client, gateway, "clinic")
        both = cookie | bearer_of(gateway.settings, "bank", tenant="other")
        assert (await client.get("/v1/session", headers=both)).json()["tenant"] == "other"
        assert (await client.get("/v1/slides", headers=both)).status_code == 403
        broken = cookie | {"Authorization": "Bearer x"}
        assert (await client.get("/v1/slides", headers=broken)).status_code == 401

    guarded.run(story)


def test_cookies_of_others_do_no_harm_and_two_sessions_are_none(guarded):  # noqa: F811
    async def story(client, gateway):
        mine = (await signed_in(client, gateway, "clinic"))["Cookie"].partition("; ")[2]
        other = (await signed_in(client, gateway, "bank"))["Cookie"].partition("; ")[2]
        for cookies, status in (
            (f'odd={{"a": [1]}}; {mine}', 200),
            (f"{mine}; {mine}", 200),
            (f"{mine}; {other}", 401),
            (f"x{mine}", 401),
        ):
            assert (await client.get("/v1/slides", headers={"Cookie": cookies})).status_code == status

    guarded.run(story)


def test_the_pages_load_for_whoever_has_no_session_or_one_that_ended(guarded):  # noqa: F811
    async def story(client, gateway):
        for headers in (
            {},
            {"Cookie": f"{COOKIE_NAME}=x.y.z"},
            {"Cookie": f"{COOKIE_NAME}="},
            {"Cookie": ";;;=" + COOKIE_NAME},
        ):
            for page in ("/console", f"/console/slides/{'0' * 32}"):
                assert (await client.get(page, headers=headers)).status_code == 200
            assert (await client.get("/v1/slides", headers=headers)).status_code == 401

    guarded.run(story)


def test_the_one_who_has_no_licence_does_not_sign_where_no_token_is_asked_for(settings):
    async def story(client, gateway):
        slide = put_slide(gateway, "in_review")
        for act in ("review", "sign", "amend"):
            found = await client.post(f"/v1/slides/{slide}/{act}", json={"diagnosis": "NILM", "findings": "x"})
            assert (found.status_code, found.json()["type"]) == (403, "/problems/not_a_pathologist")
        wrong = await client.get("/v1/slides", headers={"Authorization": "Bearer x"})
        assert wrong.status_code == 401  # a token that is sent is looked at all the same

    run_inside(settings, story)
