"""Every generated page by its path."""

from __future__ import annotations

from docs.generate import benchmarks, commands, configuration, formats, http, slide_formats


def build_pages() -> dict[str, str]:
    """Path from the root -> text."""
    return {
        "docs/reference/commands.md": commands.build_page(),
        "docs/reference/configuration.md": configuration.build_page(),
        "docs/reference/http-api.md": http.build_routes_page(),
        "docs/reference/problems.md": http.build_problems_page(),
        "docs/reference/bundle-format.md": formats.build_bundle_page(),
        "docs/reference/audit-log-format.md": formats.build_audit_log_page(),
        "docs/reference/tables.md": formats.build_tables_page(),
        "docs/reference/slide-formats.md": slide_formats.build_page(),
        "docs/reference/slide-formats.zh.md": slide_formats.build_page("zh"),
        "docs/benchmarks.md": benchmarks.build_page(),
    }
