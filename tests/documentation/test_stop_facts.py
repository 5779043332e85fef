"""The guides for banks name every fact that stops, with the bounds of the shipped policies."""

import pytest

from tests.documentation.stop_facts import stop_table
from tests.paths import ROOT


@pytest.mark.parametrize(("page", "language"), [("bank.md", "en"), ("bank.zh.md", "zh")])
def test_the_table_of_stop_facts_is_that_of_the_shipped_policies(page, language):
    assert stop_table(language) in (ROOT / "docs/guides" / page).read_text(encoding="utf-8")
