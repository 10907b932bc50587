"""The page in a real browser: sorting, curves, text that stays text, nothing leaves the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairbench.leaderboard import build, write_site
from pairbench.leaderboard.site.pages import board_page
from tests.support.grids import wait_for
from tests.support.records import board_records, language_records, record

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
    series = {"grad_norm": [1.0, float("nan"), 3.0], "lr": [1.0, 1.0, 1.0]}
    measured = {r.identity: series for r in records if r.row in ("grpo", "ppo")}
    folder = tmp_path_factory.mktemp("site")
    return write_site(records, folder, series=measured).pages[0]


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
        "return document.getElementById('said').textContent"
    )


def test_sorting_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.by import By

    button = opened.find_element(By.CSS_SELECTOR, "#board th.n_seeds button")
    opened.execute_script("arguments[0].focus()", button)
    button.send_keys("\ue007")  # Enter
    assert column(opened, "seeds") == sorted(column(opened, "seeds"), key=int)


def test_curves_toggle_and_tell_values(opened: Any) -> None:
    drawn = "return [...document.querySelectorAll('#curves .series')].map(g => [g.dataset.row, " \
        "g.querySelector('polyline').getAttribute('points').split(' ').length, " \
        "g.querySelectorAll('polygon').length])"  # fmt: skip
    before = opened.execute_script(drawn)
    assert len(before) == 8  # the first six trained rows, and both untrained ones
    assert ["grpo", 10, 1] in before and ["reference", 2, 1] in before
    off = "return [...document.querySelectorAll('#curves .legend button[aria-pressed=false]')]" \
        ".map(b => b.innerText)"  # fmt: skip
    hidden = opened.execute_script(off)
    assert len(hidden) == 2
    opened.execute_script(
        "[...document.querySelectorAll('#curves .legend button')]"
        ".find(b => b.innerText == 'grpo').click()"
    )
    after = opened.execute_script(drawn)
    assert "grpo" not in [row for row, *_ in after] and len(after) == 7
    assert set(opened.execute_script(off)) == {"grpo", *hidden}
    opened.execute_script(
        "const s = document.querySelector('#curves .plot svg');"
        "s.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
    )
    tip = opened.execute_script("return document.querySelector('#curves .tip').innerText")
    assert "200k environment steps" in tip and "hard-pair-grpo" in tip and "[" in tip


def test_markup_stays_text(opened: Any) -> None:
    assert opened.execute_script("return window.hacked === undefined")
    assert (
        opened.execute_script("return document.querySelectorAll('img, main b:not(.bar b)').length")
        == 0
    )
    assert MARKUP in column(opened, "row")
    assert MARKUP in opened.execute_script("return document.querySelector('.notes').textContent")
    assert MARKUP in opened.execute_script(
        "return document.querySelector('#curves .legend').textContent"
    )


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
    assert (
        opened.execute_script("return document.querySelector('#curves .plot svg').clientWidth")
        > 250
    )


def test_every_kind_of_page_fits_a_phone(opened: Any, page: Path) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    site = page.parent.as_uri()
    run = f"{site}/run.html#{board_records(1)[1].identity[:16]}"
    for place in (
        run,
        f"{site}/algorithms.html#grpo",
        f"{site}/algorithms.html",
        site + "/index.html",
    ):
        opened.get("about:blank")
        opened.get(place)
        opened.execute_async_script("setTimeout(arguments[0], 200)")
        assert opened.execute_script("return document.documentElement.scrollWidth") == 390, place


@pytest.mark.parametrize("width", [390, 768, 1400])
def test_no_number_of_the_picture_is_cut(opened: Any, page: Path, width: int) -> None:
    """A number cut by its frame would read as another; a pixel is the frame's own."""
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 400},
    )
    opened.get((page.parent / "index.html").as_uri())
    cut = opened.execute_script(
        "const end = document.querySelector('#picture-table').parentElement"
        ".getBoundingClientRect().right;"
        "return [...document.querySelectorAll('#picture-table td')].filter(c => {"
        "const box = c.getBoundingClientRect();"
        "return box.width && box.left < end - 2 && box.right > end + 2 }).length"
    )
    assert cut == 0


def test_settings_open_from_the_row(opened: Any) -> None:
    link = "document.querySelector('tr[data-row=\"grpo\"] a')"
    target = opened.execute_script(f"{link}.click(); return {link}.getAttribute('href').slice(1)")
    state = "return document.getElementById(arguments[0]).open"
    opened.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    assert opened.execute_script(state, target)


def test_the_frontier_is_drawn_against_the_kl_and_the_other_judge(
    browser: Any, tmp_path: Path
) -> None:
    (page,) = write_site(language_records(), tmp_path).pages
    browser.get(page.as_uri())
    assert "Smoke test only." in browser.find_element("css selector", ".caveat").text
    assert "0.600 ± 0.010" in browser.find_element("id", "judges").text
    options = (
        "return [...document.querySelectorAll('#frontier .axis option')].map(o => o.innerText)"
    )
    assert browser.execute_script(options) == [
        "KL to the untrained policy, nats per response", "proxy judge",
    ]  # fmt: skip
    drawn = "return [...document.querySelectorAll('#frontier .series')].map(g => [g.dataset.row, " \
        "g.querySelectorAll('circle').length])"  # fmt: skip
    assert sorted(browser.execute_script(drawn)) == [  # the untrained policy, then four evaluations
        ["far", 5], ["idle", 5], ["near", 5], ["reference", 0],
    ]  # fmt: skip
    browser.execute_script(
        "const s = document.querySelector('#frontier .plot svg');"
        "s.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true}))"
    )
    tip = browser.execute_script("return document.querySelector('#frontier .tip').innerText")
    assert "10 KL to the untrained policy" in tip and "far" in tip and "near" not in tip
    browser.execute_script(
        "const a = document.querySelector('#frontier .axis'); a.value = '1';"
        "a.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    name = "return document.querySelector('#frontier .plot svg').getAttribute('aria-label')"
    assert "against proxy judge" in browser.execute_script(name)
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def rows_shown(browser: Any) -> list[str]:
    return list(
        browser.execute_script(
            "return [...document.querySelectorAll('#board tbody tr')]"
            ".filter(r => !r.hidden).map(r => r.dataset.row)"
        )
    )


def choose(browser: Any, place: str, value: str) -> None:
    browser.execute_script(
        "const c = document.querySelector(arguments[0]); c.value = arguments[1];"
        "for (const kind of ['input', 'change']) c.dispatchEvent(new Event(kind, {bubbles: true}))",
        place,
        value,
    )


def test_filtering(opened: Any) -> None:
    every = rows_shown(opened)
    opened.find_element("id", "find").send_keys("GRPO hard")
    assert rows_shown(opened) == ["hard-pair-grpo", "hard-pair-grpo-no-trust-region"]
    said = opened.find_element("id", "said").text
    assert said.startswith(f"2 of {len(every)} rows shown")
    choose(opened, "#data", "no training")
    assert rows_shown(opened) == []
    choose(opened, "#find", "")
    assert rows_shown(opened) == ["reference", "random"]
    choose(opened, "#data", "")
    assert rows_shown(opened) == every and opened.find_element("id", "said").text == ""


def test_columns_are_chosen(opened: Any) -> None:
    def shown() -> list[str]:
        return list(
            opened.execute_script(
                "return [...document.querySelectorAll('#board thead th')]"
                ".filter(h => !h.hidden).map(h => h.innerText.trim())"
            )
        )

    main = shown()
    assert main[:4] == ["rank", "row", "seeds", "reward"] and "strength" not in main
    choose(opened, "#columns", "spread")
    assert "strength" in shown() and "head to head" not in shown() and shown()[:4] == main[:4]
    choose(opened, "#columns", "all")
    assert {"strength", "head to head", "date", "environment", "settings"} < set(shown())
    assert column(opened, "date").count("2026-01-01") == 10
    widths = "return [...document.querySelectorAll('#board tr')].map(" \
        "r => [...r.cells].filter(c => !c.hidden).length)"  # fmt: skip
    assert set(opened.execute_script(widths)) == {len(shown())}


def axis_ends(browser: Any) -> list[str]:
    return list(
        browser.execute_script(
            "const s = document.querySelector('#curves .plot svg');"
            "const t = [...s.querySelectorAll('text')].filter("
            "t => +t.getAttribute('y') === s.viewBox.baseVal.height - 22).map(t => t.textContent);"
            "return [t[0], t[t.length - 1]]"
        )
    )


def test_zooming_by_drag_by_keyboard_and_back(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    assert axis_ends(opened) == ["0", "200k"]
    chart = opened.find_element("css selector", "#curves .plot svg")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    side = chart.size["width"] // 4
    mouse = ActionChains(opened, duration=20).move_to_element_with_offset(chart, -side, 0)
    mouse.click_and_hold().move_to_element_with_offset(chart, 0, 0).release().perform()
    near, far = axis_ends(opened)
    assert 40 < float(near.removesuffix("k")) < 80 and 80 < float(far.removesuffix("k")) < 120
    whole = opened.find_element("css selector", "#curves .out")
    assert whole.is_enabled()
    whole.click()
    assert axis_ends(opened) == ["0", "200k"] and not whole.is_enabled()
    chart = opened.find_element("css selector", "#curves .plot svg")
    opened.execute_script("arguments[0].focus()", chart)
    chart.send_keys("+")
    near, far = axis_ends(opened)
    assert float(far.removesuffix("k")) - float(near.removesuffix("k")) <= 100
    opened.switch_to.active_element.send_keys("0")
    assert axis_ends(opened) == ["0", "200k"]


def test_a_chart_is_downloaded_as_svg(opened: Any, tmp_path: Path) -> None:
    from xml.etree import ElementTree

    opened.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    opened.execute_script("document.querySelector('#curves .save').click()")
    saved = tmp_path / "halfcheetah-v4--200k-steps-curves.svg"
    wait_for(saved.exists)
    root = ElementTree.fromstring(saved.read_text(encoding="utf-8"))
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "grpo" in texts and MARKUP in texts and "reward, stochastic policy" in texts
    lines = [node for node in root.iter() if node.tag.endswith("polyline")]
    assert len(lines) == 8 and all("rgb" in str(line.get("stroke")) for line in lines)
    assert not [node for node in root.iter() if node.get("class") or node.get("style")]


def test_head_to_head_shows_three_things(opened: Any) -> None:
    first = "return document.querySelector('#matrix tbody tr').cells[2].innerText"
    assert opened.execute_script(first).endswith("%")
    choose(opened, "#share-of", "difference")
    assert " to " in opened.execute_script(first)
    choose(opened, "#share-of", "p")
    assert len(opened.execute_script(first).split()) == 2
    assert "are not told apart" in opened.find_element("css selector", ".conclusion").text


def test_profile_and_strips_are_drawn(opened: Any) -> None:
    assert opened.execute_script("return document.querySelectorAll('#profile polyline').length") > 5
    strips = "return document.querySelectorAll('#strips tbody .strip').length"
    assert opened.execute_script(strips) == 2


def test_runs_and_algorithms_have_pages(opened: Any, page: Path) -> None:
    opened.execute_script("document.querySelector('tr[data-row=\"grpo\"] th a').click()")
    link = opened.find_element("css selector", "details[open] a[href^='run.html']")
    assert link.text.startswith("0: ")
    opened.get(link.get_attribute("href"))
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    assert opened.find_element("tag name", "h1").text == "grpo, seed 0"
    assert opened.execute_script("return document.querySelectorAll('svg.strip').length") == 2
    text = opened.find_element("tag name", "main").text
    assert "pairbench reproduce results/halfcheetah-v4/grpo/" in text and "Example CPU" in text
    assert opened.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    opened.find_element("link text", "grpo").click()
    text = opened.find_element("tag name", "main").text
    assert "arXiv" in text and "clip_low" in text and "grpo+trust-region" in text
    opened.find_element("link text", "halfcheetah-v4, 200k steps").click()
    assert opened.current_url.startswith(page.as_uri())
    assert [line for line in opened.get_log("browser") if line["level"] != "DEBUG"] == []


def test_markup_stays_text_on_the_pages_of_a_run_and_an_algorithm(opened: Any, page: Path) -> None:
    site = page.parent.as_uri()
    scripts = (page.parent / "runs").glob("halfcheetah*.js")
    runs = [run for line in scripts for run in hostile_runs(line)]
    assert len(runs) == 4
    for run in runs:
        opened.get(f"{site}/run.html#{run}")
        opened.execute_async_script("setTimeout(arguments[0], 200)")
        assert MARKUP in opened.find_element("tag name", "main").get_attribute("textContent")
        assert opened.execute_script("return window.hacked === undefined")
        assert not opened.find_elements("css selector", "main img, main b")
    opened.get(f"{site}/algorithms.html#a")
    assert MARKUP in opened.find_element("tag name", "main").text.replace("\n", "")
    assert not opened.find_elements("css selector", "img, b, script")
    for nothing in ("#..%2F..%2Fevil", "#" + "0" * 16, ""):
        opened.get("about:blank")
        opened.get(f"{site}/run.html{nothing}")
        opened.execute_async_script("setTimeout(arguments[0], 100)")
        assert opened.find_element("tag name", "h1").text == "A run"
    assert [line for line in opened.get_log("browser") if line["level"] != "DEBUG"] == []


def hostile_runs(script: Path) -> list[str]:
    """Identities of the runs whose row or reason has the markup in it."""
    found, of = [], ""
    for line in script.read_text(encoding="ascii").splitlines():
        of = line if line.startswith("pairbench('row'") else of
        if line.startswith("pairbench('run'") and "192.0.2.1" in of + line:
            found.append(line.split('"id":"')[1][:16])
    return found


def test_a_page_without_curves_or_results() -> None:
    board = build([record("orpo", 0, status="skipped", reason="no <b>probabilities</b>")])[0]
    text = board_page(board)
    assert "no &lt;b&gt;probabilities&lt;/b&gt;" in text and "Where the numbers" not in text


def test_no_address_but_the_svg_namespace(page: Path) -> None:
    text = page.read_text().replace("http://www.w3.org/2000/svg", "")
    text = text.replace("http://192.0.2.1", "")
    assert "http://" not in text and "https://" not in text and "@import" not in text
