"""The page at ``/``, in a headless browser: what people do on it, and what it must never do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gliclass_rerank import GLiClassReranker
from gliclass_rerank.serving.app import make_app
from gliclass_rerank.serving.limits import Limits
from tests.headless_browser import needs_browser, open_browser
from tests.real_server import Serving
from tests.serving_helpers import QUERY

pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ANSWER = "Leaves turn light, water and air into sugar."
PASSAGES = ["The market closed early.", f"The garden is behind the house. {ANSWER} Nobody goes there.", "Bread rises."]
KEY = "schlüssel"
DROP = """
const [name, text] = arguments, transfer = new DataTransfer();
transfer.items.add(new File([text], name));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
"""


@pytest.fixture(scope="module")
def client(bundled: GLiClassReranker) -> Iterator[httpx.Client]:
    with Serving(make_app(bundled)) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as driver:
        yield driver


class PageUser:
    """What a person does on the page.

    Args:
        browser: The browser.
        url: The server's address.
    """

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.wait_for("version", "#server")

    def element(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """What a reader of the screen reads in the elements."""
        return [element.text for element in self.browser.find_elements("css selector", selector)]

    def wait_for(self, text: str, selector: str = "#status") -> None:
        message = f"{selector} never said {text!r}"
        WebDriverWait(self.browser, 60, 0.05).until(lambda _: text in self.element(selector).text, message)

    def type(self, selector: str, text: str) -> None:
        self.element(selector).send_keys(text)

    def rank(self, query: str, *passages: str) -> None:
        self.type("#query", query)
        self.type("#passages", "\n\n".join(passages))
        self.type("#passages", Keys.CONTROL + Keys.ENTER)
        self.wait_for("ranked.")

    def drop(self, name: str, text: str) -> None:
        self.browser.execute_script(DROP, name, text)


@pytest.fixture
def user(browser: Any, client: httpx.Client) -> PageUser:
    return PageUser(browser, str(client.base_url))


def test_the_page_is_one_short_file_that_names_no_other_host(client: httpx.Client) -> None:
    answer = client.get("/").raise_for_status()
    assert answer.headers["content-type"].startswith("text/html")
    assert len(answer.text.splitlines()) <= 400
    assert "http:" not in answer.text and "https:" not in answer.text


def test_the_policy_allows_the_page_s_own_script_and_requests_to_its_own_server_only(client: httpx.Client) -> None:
    policy = client.get("/").headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("unsafe" in directive or "*" in directive for directive in policy)


@needs_browser
def test_typed_passages_are_ranked_with_the_scores_of_the_reranker(user: PageUser, bundled: GLiClassReranker) -> None:
    user.rank(QUERY, *PASSAGES)
    hits = bundled.rank(QUERY, PASSAGES)
    assert user.texts("#results .passage") == [hit.text for hit in hits]
    assert list(map(float, user.texts("#results .score"))) == pytest.approx([hit.score for hit in hits], abs=0.001)


@needs_browser
def test_the_best_sentence_is_highlighted(user: PageUser) -> None:
    user.rank(QUERY, *PASSAGES)
    assert user.texts("#results li:first-child mark.best") == [ANSWER]


@needs_browser
def test_the_slider_shows_what_a_threshold_keeps(user: PageUser, bundled: GLiClassReranker) -> None:
    user.rank(QUERY, *PASSAGES)
    slider = user.element("#threshold")
    assert float(slider.get_attribute("value")) == pytest.approx(bundled.recommended_threshold, abs=0.005)
    slider.send_keys(Keys.HOME)
    assert "keeps 3 of 3 passages" in user.element("#kept").text and not user.texts(".dropped")
    slider.send_keys(Keys.END)
    assert "keeps 0 of 3 passages, about 0 of" in user.element("#kept").text and len(user.texts(".dropped")) == 3
    slider.send_keys(Keys.ARROW_LEFT)
    assert user.element("#threshold-value").text == "0.99"
    assert "keeps 0 of 3 passages" in slider.get_attribute("aria-valuetext")


@needs_browser
@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("notes.md", f"# Plants\n\n{PASSAGES[1]}\n\nRain falls.\n", 2),
        ("rows.jsonl", f'{{"text": "{PASSAGES[1]}", "title": "Plants"}}\n\n"Rain.\\n\\nSnow."\n', 2),
        ("rows.json", json.dumps([PASSAGES[1], {"text": "Rain falls."}]), 2),
    ],
)
def test_a_dropped_file_is_ranked_with_the_typed_passages(name: str, text: str, count: int, user: PageUser) -> None:
    user.drop(name, text)
    user.wait_for(f"{count} passages added")
    user.rank(QUERY, PASSAGES[0])
    assert len(user.texts("#results > li")) == count + 1
    assert f"{name}, passage 1" in user.element("#results li:first-child").text
    assert ANSWER in user.element("#results li:first-child mark.best").text


@needs_browser
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(user: PageUser) -> None:
    user.drop("broken.jsonl", '{"text": 1}')
    user.wait_for('broken.jsonl cannot be read: item 1 has no "text"')
    assert not user.element("#sources").is_displayed()


@needs_browser
def test_markup_in_a_passage_a_file_or_a_label_shows_as_text(user: PageUser) -> None:
    markup = '<script>document.title = "run"</script><img src=x onerror="document.title = 1"> Leaves make sugar.'
    user.drop(f"{markup[:8]}.md", markup)
    user.wait_for("1 passages added")
    user.element("#options summary").click()
    user.type("#labels", "<b>bold</b>")
    user.type("#facets", "<i>italic</i>")
    user.rank(f"{markup[:8]} {QUERY}", markup)
    assert user.texts("#results .passage") == [markup, markup]
    assert "<b>bold</b>" in user.element("#results").text and "<i>italic</i>" in user.element("#results").text
    assert user.browser.title == "gliclass-rerank" and not user.texts("#results img, #results script, #results b")


@needs_browser
def test_nothing_is_fetched_from_another_host(user: PageUser, client: httpx.Client) -> None:
    user.browser.get_log("performance")  # empties it
    user.browser.get(str(client.base_url))
    user.rank(QUERY, *PASSAGES)
    messages = [json.loads(entry["message"])["message"] for entry in user.browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    outside = [url for url in requests if not url.startswith((str(client.base_url), "data:"))]
    assert len(requests) >= 3 and outside == []
    user.browser.get_log("browser")
    elsewhere = str(client.base_url).replace("127.0.0.1", "localhost")
    fetch = "return fetch(arguments[0], {mode: 'no-cors'}).then(() => 'sent', () => 'refused')"
    assert user.browser.execute_script(fetch, elsewhere) == "refused"
    assert "Content Security Policy" in str(user.browser.get_log("browser"))


@needs_browser
def test_ranking_leaves_no_complaint_of_the_browser(user: PageUser) -> None:
    user.browser.get_log("browser")
    user.element("#example").click()
    user.wait_for("ranked.")
    assert user.browser.get_log("browser") == []


@needs_browser
def test_a_long_passage_is_read_in_windows_and_its_best_one_is_shown(user: PageUser) -> None:
    filler = "The council met on Monday and spoke about the price of coal. " * 25
    user.rank(QUERY, f"{filler}{PASSAGES[1]} {filler}", PASSAGES[0])
    best = user.element("#results li:first-child")
    assert ANSWER in best.find_element("css selector", ".window").text and len(user.texts(".window")) == 1
    assert best.find_element("css selector", "mark.best").text == ANSWER
    assert "cut" not in best.text
    visible = "return arguments[0].scrollTop"
    assert user.browser.execute_script(visible, best.find_element("css selector", ".passage")) > 0


@needs_browser
def test_facets_and_labels_show_their_scores(user: PageUser, bundled: GLiClassReranker) -> None:
    facets, labels = ["about plants", "about money"], ["gardening", "finance"]
    user.element("#options summary").click()
    user.type("#facets", "\n".join(facets))
    user.type("#labels", "\n".join(labels))
    user.rank(QUERY, *PASSAGES)
    [hit, *_] = bundled.rank(QUERY, PASSAGES)
    expected = [f"{bundled.score(facet, [hit.text])[0]:.3f} {facet}" for facet in facets]
    shown = [text.strip() for text in user.texts("#results li:first-child p")]
    assert shown[:2] == expected and {text.split()[-1] for text in shown[2:]} == set(labels)


@needs_browser
def test_texts_without_a_question_are_classified_by_labels(user: PageUser) -> None:
    user.element("#options summary").click()
    user.type("#labels", "gardening\nfinance")
    user.rank("", *PASSAGES)
    assert len(user.texts("#results > li")) == 3 and not user.texts("mark, #results li button:not([hidden])")


@needs_browser
def test_the_python_code_runs_and_prints_the_scores_on_the_screen(
    user: PageUser, capsys: pytest.CaptureFixture[str]
) -> None:
    passages = [*PASSAGES, 'quotes " and \\ back\\nslashes', "東京は日本の首都です。"]
    user.element("#options summary").click()
    user.type("#facets", "about plants")
    user.type("#labels", "gardening")
    user.rank(QUERY, *passages)
    user.element("#threshold").send_keys(Keys.HOME)
    user.element("#code summary").click()
    exec(user.element("#python").text, {})
    printed = re.findall(r"^(\S+)  passage (\d+):", capsys.readouterr().out, re.MULTILINE)
    heads = [text.split() for text in user.texts("#results li > .row:first-child")]
    shown = {head[head.index("passage") + 1]: float(head[0]) for head in heads}
    # The page's server runs in float32, and the code in what suits the processor.
    assert {place: float(score) for score, place in printed} == pytest.approx(shown, abs=0.01) and len(shown) == 5


@needs_browser
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="needs curl and bash")
def test_the_curl_commands_run(user: PageUser) -> None:
    user.rank("What's the plant's sugar?", "It's $HOME `made` of light.", PASSAGES[0])
    user.element("#code summary").click()
    printed = subprocess.run(["bash", "-c", user.element("#curl").text], capture_output=True, check=True).stdout
    scores = sorted((result["relevance_score"] for result in json.loads(printed)["results"]), reverse=True)
    assert list(map(float, user.texts("#results .score"))) == pytest.approx(scores, abs=0.001)


@needs_browser
def test_the_key_that_a_server_needs_is_asked_for_and_kept_nowhere(browser: Any, bundled: GLiClassReranker) -> None:
    with Serving(make_app(bundled, api_key=KEY)) as client:
        user = PageUser(browser, str(client.base_url))
        user.type("#query", QUERY)
        user.type("#passages", "\n\n".join(PASSAGES))
        user.element("button[type=submit]").click()
        user.wait_for("needs an API key")
        assert browser.switch_to.active_element.get_attribute("id") == "key"
        user.type("#key", KEY + Keys.ENTER)
        user.wait_for("3 passages ranked.")
        user.element("#code summary").click()
        assert "$GLICLASS_API_KEY" in user.element("#curl").text and KEY not in user.element("#curl").text
        stored = "return [document.cookie, localStorage.length, sessionStorage.length, location.href]"
        assert browser.execute_script(stored) == ["", 0, 0, str(client.base_url).rstrip("/") + "/"]
        browser.refresh()
        assert user.element("#key").get_attribute("value") == ""


@needs_browser
def test_what_the_server_refuses_is_shown(browser: Any, bundled: GLiClassReranker) -> None:
    with Serving(make_app(bundled, limits=Limits(passage_characters=3000))) as client:
        user = PageUser(browser, str(client.base_url))
        user.drop("long.txt", "sugar " * 600)
        user.wait_for("1 passages added")
        user.type("#query", QUERY + Keys.ENTER)
        user.wait_for("The server answered 413: passage 0 has 3599 characters, more than 3000.")


@needs_browser
def test_everything_that_takes_the_focus_has_a_name(user: PageUser) -> None:
    user.rank(QUERY, *PASSAGES)
    user.element("#options summary").click()
    user.element("#code summary").click()
    nodes = user.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    focusable = [
        node
        for node in nodes
        if any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", ()))
    ]
    assert len(focusable) >= 15
    assert [node["role"]["value"] for node in focusable if not node.get("name", {}).get("value")] == []


@needs_browser
def test_the_page_is_dark_where_the_reader_s_system_is(user: PageUser) -> None:
    colors = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    shown = {}
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        user.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        shown[scheme] = [brightness(color) for color in user.browser.execute_script(colors)]
    assert shown["light"][0] < 100 < 240 < shown["light"][1]
    assert shown["dark"][1] < 50 < 200 < shown["dark"][0]


def brightness(color: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 3
