"""The page of `theriac report` in a browser: it sorts, filters and opens, and no name becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from theriac.search.report.page import pictures, read_results, rendering, report_page
from theriac.tests.report_pages import Page, browsed, evil_rows, needs_chromium, row, written

PROBE = """
addEventListener("error", (event) => { document.documentElement.dataset.fault = event.message; });
addEventListener("securitypolicyviolation", (event) => {
  document.documentElement.dataset.violation = event.violatedDirective;
});
"""
ACTIONS = """
(() => {
  const rows = () => [...lines.tBodies[0].rows].filter((one) => !one.classList.contains("behind"));
  const lines = document.getElementById("lines");
  const heads = [...lines.tHead.rows[0].cells];
  const head = heads.find((one) => one.textContent.startsWith("healed %"));
  const column = heads.indexOf(head);
  const texts = () => rows().map((one) => one.cells[column].textContent).join(" ");
  const said = document.documentElement.dataset;
  head.firstChild.click();
  said.up = texts();
  said.sort = head.getAttribute("aria-sort");
  head.firstChild.click();
  said.down = texts();
  rows()[0].cells[1].click();
  said.opened = document.querySelector("tr.behind table").textContent;
  said.expanded = rows()[0].querySelector("button").getAttribute("aria-expanded");
  const box = document.getElementById("filter");
  box.value = "SINE 300";
  box.dispatchEvent(new Event("input"));
  said.count = document.getElementById("count").textContent;
  said.shown = String(rows().filter((one) => !one.hidden).length);
  said.wide = String(document.documentElement.scrollWidth - document.documentElement.clientWidth);
})();
"""

pytestmark = needs_chromium


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_DRAWN", 0)


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch, actions: str = "") -> Path:
    """Write the page with a script that watches, and then does something."""
    script = rendering._file(rendering.SCRIPT)
    texts = {rendering.SCRIPT: f"{PROBE}{script}{actions}"}
    real = rendering._file
    monkeypatch.setattr(rendering, "_file", lambda name: texts.get(name) or real(name))
    path = folder / "report.html"
    path.write_text(report_page(read_results(folder)))
    return path


def said(dom: str) -> dict[str, str]:
    (element,) = re.findall(r"<html[^>]*>", dom)
    return {name.removeprefix("data-"): value for _, name, value in Page(element).attributes}


def test_lines_are_sorted_filtered_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"badnets": (80.0, 9.0, None), "sine": (100.0, 7.5, 60.0)}
    rows = [
        row(f"{attack}{k}", attack=attack, manipulated=(k + 1) * 100, setup=f"{attack}{k}", healed=value)
        for attack, healed in values.items()
        for k, value in enumerate(healed)
    ]
    page = page_of(written(tmp_path, rows), monkeypatch, ACTIONS)
    found = said(browsed(page, tmp_path / "profile", "--window-size=500,900"))
    assert found["ready"] == "yes"
    assert "fault" not in found
    assert "violation" not in found
    assert found["up"] == "7.5 9.0 60.0 80.0 100.0 \N{EN DASH}"
    assert found["down"] == "100.0 80.0 60.0 9.0 7.5 \N{EN DASH}"
    assert found["sort"] == "ascending"
    assert found["expanded"] == "true"
    assert "sine0" in found["opened"]
    assert (found["count"], found["shown"]) == ("1 of 6 lines", "1")
    assert found["wide"] == "0", "the page scrolls sideways"


def test_names_make_no_elements_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = 'document.querySelectorAll("tr.line").forEach((one) => one.click());'
    dom = browsed(page_of(written(tmp_path, evil_rows()), monkeypatch, everything), tmp_path / "profile")
    read, found = Page(dom), said(dom)
    assert found["ready"] == "yes"
    assert {"fault", "violation"}.isdisjoint(found)
    assert {"img", "b", "svg"}.isdisjoint(read.names)
    assert read.names.count("script") == 2
    assert "behind" in {value for _, name, value in read.attributes if name == "class"}
    assert not [one for one in read.attributes if one[1].startswith("on")]
