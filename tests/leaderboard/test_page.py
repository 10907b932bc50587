"""The page in a real browser: sorting, curves, text that stays text, nothing leaves the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from records import board_records, language_records, record

from pairbench.leaderboard import build, write_site
from pairbench.leaderboard.page import board_page

MARKUP = '</script><img src="http://192.0.2.1/x" onerror="window.hacked=1"><b>bold</b>&amp;'
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not CHROMIUM or not DRIVER:
        pytest.skip("no Chromium with its driver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = board_records(3)
    records += [
        record(MARKUP, seed, algorithm="a", config={"note": MARKUP}, level=5000.0)
        for seed in range(3)
    ]
    records += [record("bad", 0, status="skipped", reason=MARKUP, config={"bad": 1})]
    folder = tmp_path_factory.mktemp("site")
    return next(
        p for p in write_site(records, folder) if p.name == "halfcheetah-v4--200k-steps.html"
    )


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.get_log("performance")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get(page.as_uri())
    return browser


def column(browser: Any, name: str) -> list[str]:
    return list(
        browser.execute_script(
            "const i = [...document.querySelectorAll('#board thead th')].findIndex("
            "h => h.innerText.trim().startsWith(arguments[0]));"
            "return [...document.querySelectorAll('#board tbody tr')]"
            ".map(r => r.cells[i].dataset.value)",
            name,
        )
    )


def click(browser: Any, name: str) -> str:
    return str(
        browser.execute_script(
            "const h = [...document.querySelectorAll('#board thead th')].find("
            "h => h.innerText.trim().startsWith(arguments[0]));"
            "h.querySelector('button').click(); return h.getAttribute('aria-sort')",
            name,
        )
    )


def test_sorting(opened: Any) -> None:
    assert click(opened, "SD") == "ascending"
    values = column(opened, "SD")
    filled = [float(value) for value in values if value]
    assert filled == sorted(filled) and len(filled) >= 8
    assert values[-1] == ""  # what has no value is last either way
    assert click(opened, "SD") == "descending"
    values = column(opened, "SD")
    assert [float(v) for v in values if v] == sorted(filled, reverse=True) and values[-1] == ""
    assert click(opened, "row") == "ascending"
    assert column(opened, "row") == sorted(column(opened, "row"))
    sorts = opened.execute_script("return document.querySelectorAll('th[aria-sort]').length")
    assert sorts == 1
    assert "row, ascending" in opened.execute_script(
        "return document.getElementById('sorted').textContent"
    )


def test_sorting_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    button = opened.find_element(By.CSS_SELECTOR, "#board th.n_seeds button")
    opened.execute_script("arguments[0].focus()", button)
    button.send_keys("\ue007")  # Enter
    assert column(opened, "seeds") == sorted(column(opened, "seeds"), key=int)


def test_curves_toggle_and_tell_values(opened: Any) -> None:
    drawn = "return [...document.querySelectorAll('#chart .series')].map(g => [g.dataset.row, " \
        "g.querySelector('polyline').getAttribute('points').split(' ').length, " \
        "g.querySelectorAll('polygon').length])"  # fmt: skip
    before = opened.execute_script(drawn)
    assert len(before) == 10 and ["grpo", 10, 1] in before and ["reference", 2, 1] in before
    opened.execute_script(
        "[...document.querySelectorAll('#legend button')].find(b => b.innerText == 'grpo').click()"
    )
    after = opened.execute_script(drawn)
    assert "grpo" not in [row for row, *_ in after] and len(after) == 9
    pressed = opened.execute_script(
        "return [...document.querySelectorAll('#legend button[aria-pressed=false]')]"
        ".map(b => b.innerText)"
    )
    assert pressed == ["grpo"]
    opened.execute_script(
        "const s = document.querySelector('#chart svg');"
        "s.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
    )
    tip = opened.execute_script("return document.getElementById('tip').innerText")
    assert "200k environment steps" in tip and "ppo" in tip and "[" in tip


def test_markup_stays_text(opened: Any) -> None:
    assert opened.execute_script("return window.hacked === undefined")
    assert (
        opened.execute_script("return document.querySelectorAll('img, main b:not(.bar b)').length")
        == 0
    )
    assert MARKUP in column(opened, "row")
    assert MARKUP in opened.execute_script("return document.querySelector('.notes').textContent")
    assert MARKUP in opened.execute_script("return document.getElementById('legend').textContent")


def test_nothing_leaves_the_page_and_no_error(opened: Any, page: Path) -> None:
    click(opened, "reward")
    logged = [entry for entry in opened.get_log("browser") if entry["level"] != "DEBUG"]
    assert logged == []
    import json

    messages = [json.loads(e["message"])["message"] for e in opened.get_log("performance")]
    asked = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert asked - {"data:,"} == {page.as_uri()}


def test_fits_a_phone(opened: Any) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") == 390
    assert opened.execute_script("return document.querySelector('#chart svg').clientWidth") > 250


def test_settings_open_from_the_row(opened: Any) -> None:
    link = "document.querySelector('tr[data-row=\"grpo\"] a')"
    target = opened.execute_script(f"{link}.click(); return {link}.getAttribute('href').slice(1)")
    state = "return document.getElementById(arguments[0]).open"
    opened.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    assert opened.execute_script(state, target)


def test_curves_are_drawn_against_the_kl_and_the_other_judge(browser: Any, tmp_path: Path) -> None:
    pages = write_site(language_records(), tmp_path)
    browser.get(next(p for p in pages if p.match("hh-rlhf*.html")).as_uri())
    assert "Smoke test only." in browser.find_element("css selector", ".caveat").text
    assert "0.600 ± 0.010" in browser.find_element("id", "judges").text
    options = "return [...document.querySelectorAll('#axis option')].map(o => o.innerText)"
    assert browser.execute_script(options) == [
        "environment steps", "KL to the untrained policy, nats per response", "proxy judge",
    ]  # fmt: skip
    drawn = "return [...document.querySelectorAll('#chart .series')].map(g => [g.dataset.row, " \
        "g.querySelectorAll('circle').length])"  # fmt: skip
    assert sorted(browser.execute_script(drawn)) == [
        ["far", 0], ["idle", 0], ["near", 0], ["reference", 0],
    ]  # fmt: skip
    browser.execute_script(
        "const a = document.getElementById('axis'); a.value = '1';"
        "a.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    assert sorted(browser.execute_script(drawn)) == [
        ["far", 4], ["idle", 4], ["near", 4], ["reference", 0],
    ]  # fmt: skip
    browser.execute_script(
        "const s = document.querySelector('#chart svg');"
        "s.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
    )
    tip = browser.execute_script("return document.getElementById('tip').innerText")
    assert "10 KL to the untrained policy" in tip and "far" in tip and "near" not in tip
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_a_page_without_curves_or_results() -> None:
    board = build([record("orpo", 0, status="skipped", reason="no <b>probabilities</b>")])[0]
    text = board_page(board)
    assert "no &lt;b&gt;probabilities&lt;/b&gt;" in text and "Where the numbers" not in text


def test_no_address_but_the_svg_namespace(page: Path) -> None:
    text = page.read_text().replace("http://www.w3.org/2000/svg", "")
    text = text.replace("http://192.0.2.1", "")
    assert "http://" not in text and "https://" not in text and "@import" not in text
