"""Chromium: opens pages, presses their buttons, takes their pictures and checks their manners."""

import base64
import json
import os
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from steps import expect, poll

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--no-proxy-server",
    "--ignore-certificate-errors",
    "--hide-scrollbars",
]

DESKTOP = (1280, 900)
PHONE = (390, 844)

# The texts that are laid out, even in part, outside of the content of the block that they are in.
OVERFLOWING = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const overflowing = [];
while (walker.nextNode()) {
  let block = walker.currentNode.parentElement;
  while (getComputedStyle(block).display === "inline") block = block.parentElement;
  const box = block.getBoundingClientRect(), style = getComputedStyle(block);
  const left = box.left + parseFloat(style.borderLeftWidth) + parseFloat(style.paddingLeft);
  const right = box.right - parseFloat(style.borderRightWidth) - parseFloat(style.paddingRight);
  const range = document.createRange();
  range.selectNodeContents(walker.currentNode);
  const leaves = rect => rect.width > 0 && (rect.left < left - 1 || rect.right > right + 1);
  if ([...range.getClientRects()].some(leaves)) overflowing.push(walker.currentNode.data.trim());
}
return overflowing;
"""


class Browser:
    """One Chromium with a fresh profile. `site` is the only host that a page may talk to."""

    def __init__(self, site: str, home: Path, shots: Path, axe: str, javascript: bool = True) -> None:
        home.mkdir()
        self._axe = axe
        self._runs = javascript
        self._site = site
        self._shots = shots
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in [*FLAGS, f"--user-data-dir={home / 'profile'}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if not javascript:
            blocked = 2
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": blocked}
            )
        service = Service(
            "/usr/bin/chromedriver",
            log_output=str(home / "chromedriver.log"),
            env=os.environ | {"HOME": str(home)},
        )
        self._driver = webdriver.Chrome(options, service)
        self._driver.set_page_load_timeout(20)
        self._driver.set_script_timeout(10)
        expect(self._runs_scripts(), javascript, "scripts run")

    def open(self, url: str) -> None:
        self._driver.get(url)

    def url(self) -> str:
        return self._driver.current_url

    def text(self) -> str:
        return self._driver.find_element(By.TAG_NAME, "body").text

    def outcome(self) -> str | None:
        """What the page says has happened."""
        return self._script("return document.querySelector('main')?.dataset.outcome")

    def has_decision(self, value: str) -> bool:
        return bool(self._driver.find_elements(By.CSS_SELECTOR, _decision(value)))

    def decide(self, value: str, outcome: str) -> None:
        """Presses a button of the page that asks; the next page reports this outcome."""
        before = self.outcome()
        self._driver.find_element(By.CSS_SELECTOR, _decision(value)).click()
        poll(lambda: self.outcome() not in (None, before), 15, f"the page after {value}")
        expect(self.outcome(), outcome, f"the outcome of {value}")

    def confirm_and_go_on(self, onward: str) -> None:
        """Presses Confirm; the browser ends up where the client wanted the person to go."""
        self._driver.find_element(By.CSS_SELECTOR, _decision("confirm")).click()
        poll(lambda: self.url() == onward, 15, "the page to go on to")

    def count(self, selector: str) -> int:
        return len(self._driver.find_elements(By.CSS_SELECTOR, selector))

    def press(self, keys: str) -> None:
        """Types, as somebody without a mouse does."""
        ActionChains(self._driver).send_keys(keys).perform()

    def tab_to(self, selector: str) -> None:
        """Presses Tab until the element has the focus, which must then be seen."""
        for _ in range(60):
            self.press(Keys.TAB)
            if self._script("return document.activeElement.matches(arguments[0])", selector):
                outline = self._script("return getComputedStyle(document.activeElement).outlineStyle")
                expect(outline == "none", False, f"{selector} shows no focus: none")
                return
        raise AssertionError(f"no Tab leads to {selector}")

    def submit(self, values: dict[str, str], form: str = "main form") -> None:
        """Fills in a form of the page and sends it."""
        element = self._driver.find_element(By.CSS_SELECTOR, form)
        for name, value in values.items():
            element.find_element(By.NAME, name).send_keys(value)
        element.find_element(By.CSS_SELECTOR, "button").click()

    def look(self, name: str, language: str) -> None:
        """Takes the page's pictures and checks what holds for every page, in this language.

        The layout and axe-core are checked as on a desktop and as on a phone, in light and in dark each;
        axe-core needs scripts that run. The rest does not depend on the screen and is checked once.
        """
        backgrounds = set()
        if self._runs:
            # It is run beside the page, whose policy lets it load none.
            self._script(self._axe)
        for (width, height), scheme in product((DESKTOP, PHONE), ("light", "dark")):
            self._show(width, height, scheme)
            self._picture(f"{language}-{name}-{width}-{scheme}")
            self._check_layout(name, width)
            if self._runs:
                self._check_axe(f"{name} at {width} px in {scheme}")
            backgrounds.add(self._script("return getComputedStyle(document.body).backgroundColor"))
        expect(len(backgrounds), 2, f"{name}: backgrounds, one in light and one in dark")
        self._check_structure(name, language)
        documents = self._check_requests(name)
        self._check_console(name, documents)

    def close(self) -> None:
        self._driver.quit()

    def _show(self, width: int, height: int, scheme: str) -> None:
        """The page as it is on a screen of this size, for somebody who prefers this scheme."""
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": (width, height) == PHONE},
        )
        self._driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )

    def _picture(self, name: str) -> None:
        """Of the whole page, beyond what the screen shows of it."""
        size = self._driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        picture = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot",
            {"format": "png", "captureBeyondViewport": True, "clip": size | {"scale": 1}},
        )
        (self._shots / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

    def _check_axe(self, name: str) -> None:
        """No rule of axe-core is broken."""
        found = self._driver.execute_async_script(
            "const done = arguments[0]; axe.run().then(found => done(found.violations.map("
            "rule => rule.id + ': ' + rule.nodes.map(node => node.target).join(' '))));"
        )
        expect(found, [], f"{name}: what axe-core finds")

    def _check_layout(self, name: str, width: int) -> None:
        """Nothing is wider than the screen, and no text leaves its box."""
        client, scroll = self._script(
            "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
        )
        expect(client, width, f"{name}: the width it is laid out for")
        if scroll > client:
            raise AssertionError(f"{name} is {scroll} px wide on a screen of {client} px")
        expect(self._script(OVERFLOWING), [], f"{name} at {width} px: texts that leave their boxes")

    def _check_structure(self, name: str, language: str) -> None:
        actual = self._script("return document.documentElement.lang")
        expect(actual, language, f"{name}: the language that the document says it is in")
        expect(len(self._driver.find_elements(By.TAG_NAME, "h1")), 1, f"{name}: h1 elements")

    def _check_requests(self, name: str) -> set[str]:
        """No request to anyone else since the last look; the documents that were asked for."""
        documents = set()
        for entry in self._driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                address = event["params"]["request"]["url"]
                url = urlsplit(address)
                # Others, like data: and Chromium's own chrome:, do not leave the browser.
                if url.scheme in ("http", "https"):
                    expect(url.netloc, self._site, f"{name}: whom a request goes to")
                if event["params"].get("type") == "Document":
                    documents.add(address)
        return documents

    def _check_console(self, name: str, documents: set[str]) -> None:
        """No complaint in the console since the last look."""
        for entry in self._driver.get_log("browser"):
            # Chromium writes a line here when a page itself comes with an error status.
            own_status = entry["source"] == "network" and entry["message"].split()[0] in documents
            if entry["level"] in ("SEVERE", "WARNING") and not own_status:
                raise AssertionError(f"{name}: console: {entry['message']}")

    def _runs_scripts(self) -> bool:
        self.open("data:text/html,<title>off</title><script>document.title='on'</script>")
        return self._driver.title == "on"

    def _script(self, source: str, *arguments: str) -> Any:
        return self._driver.execute_script(source, *arguments)


def _decision(value: str) -> str:
    return f"button[name=decision][value={value}]"
