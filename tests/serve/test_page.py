"""Tests of the page in a real browser that clicks its buttons."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from chromium import PROGRAM, browsing
from embedrt import Embedder, Reranker
from embedrt.serve.page import PAGE
from serving import Serving

needs_a_browser = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
KEPT = "EMBEDRT_TEST_SCREENSHOT"  # path at which to save a screenshot for inspection


def test_loads_nothing_from_elsewhere(server: Serving) -> None:
    answer = server.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.content == PAGE
    assert not re.search(rb"https?://|src=|@import|url\(", PAGE)


@needs_a_browser
def test_in_a_browser(server: Serving, embedder: Embedder, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile") as page:
        page.call("Page.navigate", url=server.url + "/")
        page.wait_for("document.getElementById('state')?.textContent === 'ready'")
        assert page.evaluate("document.title").startswith(embedder.manifest.name)
        card = page.evaluate("document.getElementById('card').textContent")
        assert f"dimension{embedder.dimension}" in card

        page.evaluate("document.getElementById('text').value = 'a text for the page'")
        page.evaluate("document.getElementById('embed').click()")
        shown = page.wait_for("document.querySelector('.vector')?.textContent")
        numbers = [float(number) for number in shown.partition("[")[2].rstrip("]").split(", ")]
        assert numbers == pytest.approx(embedder.encode("a text for the page").tolist(), abs=1e-6)

        page.evaluate("document.getElementById('compare').click()")
        score = page.wait_for("document.getElementById('score').textContent")
        texts = page.evaluate("[left, right].map(area => area.value).join('|')").split("|")
        vectors = embedder.encode(texts)
        assert float(score) == pytest.approx(
            float(embedder.similarity(vectors[:1], vectors[1:])[0, 0]), abs=1e-4
        )

        page.evaluate("document.getElementById('prompt').append(new Option('no', 'no'))")
        page.evaluate("document.getElementById('prompt').value = 'no'")
        page.evaluate("document.getElementById('embed').click()")
        told = page.wait_for("document.querySelector('#vector.error')?.textContent")
        assert told == "prompt_name='no'; this model has none"
        page.evaluate("document.getElementById('prompt').value = ''")
        page.evaluate("document.getElementById('embed').click()")
        page.wait_for("document.querySelector('#vector:not(.error) .vector')?.textContent")

        page.wait_for("/texts a second\\d/.test(figures.textContent)")
        page.screenshot(Path(os.environ.get(KEPT, tmp_path / "page.png")))

        asked = {
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        }
        assert {url.removeprefix(server.url) for url in asked if url.startswith("http")} == {
            "/", "/card", "/stats", "/ready", "/embed", "/similarity",
        }  # fmt: skip
        complaints = [
            event["params"]["entry"]["text"]
            for event in page.events
            if event.get("method") == "Log.entryAdded"
        ]
        assert [text for text in complaints if "422" not in text] == []
        thrown = [event for event in page.events if event["method"] == "Runtime.exceptionThrown"]
        assert thrown == []


@needs_a_browser
def test_a_reranker_in_a_browser(ranking: Serving, reranker: Reranker, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile") as page:
        page.call("Page.navigate", url=ranking.url + "/")
        page.wait_for("document.getElementById('state')?.textContent === 'ready'")
        page.wait_for("document.getElementById('card').textContent.includes('labelsLABEL_0')")
        shown = "['embed', 'compare', 'rank'].map(id => $(id).checkVisibility()).join()"
        assert page.evaluate(shown) == "false,false,true"
        query, *texts = page.evaluate("[query, documents].map(one => one.value).join('\\n')").split(
            "\n"
        )
        page.evaluate("document.getElementById('rank').click()")
        listed = page.wait_for(
            "[...document.querySelectorAll('li')].map(li => li.innerText).join('|')"
        )
        assert listed.split("|") == [
            f"{each['score']:.4f} {each['text']}"
            for each in reranker.rank(query, texts, return_documents=True, activation_fn="Sigmoid")
        ]
        assert [
            event for event in page.events if event["method"] == "Runtime.exceptionThrown"
        ] == []
