"""The page in a real browser, headless: Debian's Chromium, driven by Selenium."""

import shutil
import time

import cv2
import numpy as np
import pytest

from tests.restoring.scenes import plate, street, write_video

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver (Debian: chromium-driver)"
)


@pytest.fixture
def browser(tmp_path, request):
    width, height = getattr(request, "param", (1200, 900))
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--lang=en"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},{height}")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def write(path, image):
    cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return path


def by(browser, selector):
    return browser.find_element("css selector", selector)


def restore(browser):
    by(browser, "#go").click()
    wait_for(lambda: by(browser, "#results").is_displayed() or by(browser, "#error").text)
    assert by(browser, "#error").text == ""


def test_frames_give_a_reading_before_the_pictures(browser, start, tmp_path):
    server = start()
    browser.get(server.address)
    files = [write(tmp_path / f"{k}.png", plate(k, 60)) for k in range(3)]
    by(browser, "#files").send_keys("\n".join(map(str, files)))
    by(browser, "#steps").clear()
    by(browser, "#steps").send_keys("3")
    restore(browser)
    tops = [by(browser, s).rect["y"] for s in (".verdict", ".reading", ".pictures")]
    assert tops == sorted(tops) and len(by(browser, ".reading").text) > 0
    # Frames, psi, three samples and where they differ; every generated one says so.
    assert len(browser.find_elements("css selector", ".pictures img")) == 8
    assert by(browser, ".steps input").get_attribute("max") == "3"
    assert "generated" in by(browser, ".warning").text
    assert by(browser, "#zip").get_attribute("href").startswith("blob:")
    by(browser, "#language").send_keys("中文")
    assert "复原" in by(browser, "#go").text and "可信度" in by(browser, ".plate").text
    # Nothing was refused by the policy, and no other address was asked.
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    asked = [
        e["message"] for e in browser.get_log("performance") if "requestWillBeSent" in e["message"]
    ]
    assert asked and not [m for m in asked if '"url":"http' in m and server.address not in m]


def test_a_box_is_drawn_with_the_mouse_and_moved_by_keys(browser, start, tmp_path):
    browser.get(start().address)
    by(browser, "#files").send_keys(str(write(tmp_path / "street.png", street())))
    wait_for(lambda: by(browser, "#canvas").is_displayed())
    canvas = by(browser, "#canvas")
    # Its middle is that of the part that is seen.
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    scale = 640 / canvas.rect["width"]
    actions = webdriver.ActionChains(browser)
    actions.move_to_element_with_offset(canvas, -100 / scale, -50 / scale).click_and_hold()
    actions.move_by_offset(90 / scale, 30 / scale).release().perform()
    box = [int(by(browser, f"#box-{name}").get_attribute("value")) for name in "xywh"]
    assert np.abs(np.subtract(box, [220, 130, 90, 30])).max() <= 3
    by(browser, "#canvas").send_keys("\ue014")  # arrow to the right
    assert int(by(browser, "#box-x").get_attribute("value")) == box[0] + 3
    restore(browser)
    assert "1 of 1" in by(browser, ".plate").text


@pytest.mark.parametrize("browser", [(390, 844)], indirect=True)
def test_a_phone_sees_all_of_it_and_a_clip_has_moments(browser, start, tmp_path):
    browser.get(start().address)
    clip = write_video(tmp_path / "clip.avi", [street(k) for k in range(8)])
    by(browser, "#files").send_keys(str(clip))
    wait_for(lambda: by(browser, "#time-row").is_displayed())
    for name, value in zip("xywh", ("100", "50", "60", "20"), strict=True):
        by(browser, f"#box-{name}").send_keys(value, "\t")
    restore(browser)
    wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    assert len(browser.find_elements("css selector", ".plate")) == 1


def test_what_is_wrong_is_shown(browser, start, tmp_path):
    browser.get(start().address)
    (tmp_path / "a.png").write_bytes(b"not a png")
    by(browser, "#files").send_keys(str(tmp_path / "a.png"))
    wait_for(lambda: "not an image" in by(browser, "#error").text)
