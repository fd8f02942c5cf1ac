"""The player in a real browser, headless, where a Chromium is installed: a laptop's window, a phone, two tabs.

Screenshots are kept in the folder of pytest's temporary files (--basetemp, else the system's).
"""

import re

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from experiment.problem import Problem
from play.hosts import Hosts
from tests.optional import installed
from tests.player import PATIENCE, server_of, wait

api = pytest.importorskip("playwright.sync_api", reason="no Playwright: bash launch_scripts/setup.bash dev")
expect = api.expect
pytestmark = pytest.mark.needs("browser")

PHONE = {"viewport": {"width": 390, "height": 664}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
OUT_OF_REACH = """() => {
  const shown = [...document.querySelectorAll("h1, button, input, canvas, figcaption, #total, #unit, #rate, #axes > *")]
    .map((element) => ({ element, box: element.getBoundingClientRect(), name: element.id || element.textContent || element.tagName }))
    .filter(({ element, box }) => element.id !== "overlay" && box.width && getComputedStyle(element).visibility === "visible");
  const scrolls = document.body.dataset.world === "real" && innerWidth < innerHeight, stays = ({ element }) => !scrolls || element.closest("#touch");
  const outside = shown.filter(({ element, box }) => box.left < 0 || box.right > innerWidth + 1
    || stays({ element }) && (box.top < 0 || box.bottom > innerHeight + 1));
  const covered = shown.filter(stays).filter(({ element, box }) => element.matches("button, input")
    && [[0.5, 0.5], [0.1, 0.2], [0.9, 0.8]].some(([across, down]) => !element.contains(
      document.elementFromPoint(box.left + across * box.width, box.top + down * box.height))));
  const apart = shown.filter(({ element, box }) => element.matches("#axes > *")
    && box.bottom > document.querySelector("#controls").getBoundingClientRect().top);
  return [...outside.map(({ name }) => `${name} is outside`), ...covered.map(({ name }) => `${name} is covered`),
    ...apart.map(({ name }) => `${name} lies among the controls`)];
}"""
PLAYING = "body[data-controller=true][data-step]"  # C
LISTEN = """() => {
  window.seen = [];
  document.addEventListener("frame", ({ detail }) => {
    const canvases = [...document.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL());
    window.seen.push({ ...detail, pictures: canvases });
  });
}"""


@pytest.fixture(scope="module")
def browser():
    """The system's, or the one that Playwright has installed."""
    expect.set_options(timeout=PATIENCE * 1000)
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=installed())
        yield opened
        opened.close()


doom, racing, breakout, coinrun = map(server_of, ("doom", "carracing", "breakout", "coinrun"))


@pytest.fixture
def open_page(browser):
    """open_page(server, query, script, driver, **context): a tab; any error in it fails the test.

    script: run in the page before its own. driver: "you" has taken over where C was playing, "controller" has not; None:
    nothing is waited for.
    """
    contexts, errors = [], []

    def open_one(server, query="", script="", driver="you", **settings):
        context = browser.new_context(**settings)
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(error))
        page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(f"http://{server.address}/{query}")
        page.evaluate(LISTEN)
        if driver and "controller" in server.site.models.missing:
            expect(page.locator("#overlay")).to_be_visible()
        elif driver:
            expect(page.locator(PLAYING)).to_be_visible()
        if driver == "you" and "controller" not in server.site.models.missing:
            page.click("[data-driver=you]")
            expect(page.locator("body[data-controller=false]")).to_be_visible()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not errors


def until(page, condition):
    """Until this JavaScript is true, where `now` is the last frame. (Playwright's own way is against the page's policy.)"""
    wait(lambda: page.evaluate(f"() => {{ const now = window.seen.at(-1); return Boolean(now && ({condition})); }}"))


def reach(page, step):
    """Until the episode has come to a step."""
    until(page, f"now.step >= {step}")


def episode(page, key, steps=15):
    """Begin again with a key held, and return the pictures that are seen, by step."""
    if key:
        page.keyboard.down(key)
    page.evaluate("window.seen = []")
    number = page.evaluate("document.body.dataset.episode")
    page.keyboard.press("KeyR")
    until(page, f"document.body.dataset.episode > {number} && document.body.dataset.step >= {steps}")
    if key:
        page.keyboard.up(key)
    frames = [frame for frame in page.evaluate("window.seen") if frame["episode"] > int(number)]
    return {frame["step"]: frame["pictures"][0] for frame in frames}


def differ(first, second):
    """Whether two episodes were seen to part."""
    steps = set(first) & set(second) - {0}
    assert steps
    return any(first[step] != second[step] for step in steps)


def test_frames_arrive_and_keys_and_temperature_change_what_happens(doom, open_page, tmp_path):
    page = open_page(doom, "?seed=5", viewport={"width": 1280, "height": 760})
    expect(page.locator("#degrees")).to_have_text("1.15")
    page.evaluate("window.seen = []")
    reach(page, 10)
    expect(page.locator("#overlay")).to_be_hidden()
    until(page, "window.seen.length > 8 && now.action[0] === 0")
    assert len({frame["pictures"][0] for frame in page.evaluate("window.seen")}) > 5
    assert int(page.inner_text("#total")) >= 10

    still, again, left, right = (episode(page, key) for key in (None, None, "ArrowLeft", "KeyD"))
    assert not differ(still, again)
    assert differ(still, left) and differ(still, right) and differ(left, right)

    page.locator("#temperature").fill("3")
    page.locator("#temperature").blur()
    expect(page.locator("#degrees")).to_have_text("3.00")
    until(page, "state.temperature === 3")
    assert differ(still, episode(page, None))

    page.keyboard.press("KeyC")
    expect(page.locator("[data-driver=controller]")).to_have_attribute("aria-pressed", "true")
    until(page, "now.controller")
    page.screenshot(path=tmp_path / "laptop.png")
    page.keyboard.down("ArrowLeft")  # who touches the keys drives
    until(page, "!now.controller && now.action[0] === -1")
    page.keyboard.up("ArrowLeft")
    page.keyboard.press("KeyP")
    expect(page.locator("#overlay")).to_contain_text("Paused")
    assert cv2.imread(str(tmp_path / "laptop.png")).shape == (760, 1280, 3)


def test_a_recording_is_downloaded_and_plays(doom, open_page, tmp_path):
    page = open_page(doom)
    reach(page, 2)
    page.click("#record")
    expect(page.locator("#mark")).to_be_visible()
    reach(page, int(page.inner_text("#total")) + 25)
    with page.expect_download() as waiting:
        page.click("#record")
    path = tmp_path / "video.mp4"
    waiting.value.save_as(path)
    expect(page.locator("#toast")).to_contain_text("video saved")
    assert waiting.value.suggested_filename.endswith(".mp4")
    about, *frames = imageio_ffmpeg.read_frames(path)
    pictures = [np.frombuffer(frame, "uint8") for frame in frames]
    assert about["fps"] == 35 and len(pictures) > 20 and np.any(pictures[0] != pictures[-1])


def test_two_tabs_have_a_world_each(doom, open_page, tmp_path):
    dream, game = open_page(doom), open_page(doom, viewport={"width": 1280, "height": 760})
    game.click("[data-world=real]")
    expect(game.locator("figcaption")).to_have_text(["the game", "what V keeps of it"])
    game.keyboard.down("ArrowRight")
    dream.keyboard.down("ArrowLeft")
    for page, action in ((dream, -1), (game, 1)):
        until(page, f"now.step > 20 && now.action[0] === {action}")
    game.screenshot(path=tmp_path / "game.png")
    (last,) = game.evaluate("window.seen.slice(-1)")
    assert len(last["pictures"]) == 2 and last["pictures"][0] != last["pictures"][1]
    game.close()
    steps = int(dream.inner_text("#total"))
    reach(dream, steps + 10)
    wait(lambda: len(doom.site.sessions) == 1)


def test_a_phone_has_pads_and_everything_in_reach(racing, open_page, tmp_path):
    page = open_page(racing, **PHONE)
    until(page, "now.over === 'cut'")
    expect(page.locator("#overlay")).to_contain_text("all the time")
    width, height = (page.evaluate(f"document.documentElement.{name}") for name in ("scrollWidth", "scrollHeight"))
    assert (width, height) == (390, 664), "something lies outside of the screen"
    page.tap("[data-world=real]")
    expect(page.locator("figcaption")).to_have_count(2)
    gas = page.locator("#touch button", has_text="gas")
    gas.dispatch_event("pointerdown", {"pointerId": 1})
    until(page, "now.action[1] > 0.5")
    page.screenshot(path=tmp_path / "phone.png")
    gas.dispatch_event("pointerup", {"pointerId": 1})
    until(page, "now.action[1] === 0")
    game, kept = (page.locator("canvas").nth(i).bounding_box() for i in range(2))
    assert game["width"] == kept["width"] > 360 and game["y"] + game["height"] < kept["y"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(
    "server, worlds",
    [
        ("doom", ["dream", "real"]),
        ("racing", ["dream", "real"]),
        ("breakout", ["dream", "real"]),
        ("coinrun", ["dream"]),
        pytest.param("coinrun", ["real"], marks=pytest.mark.needs("qt")),
    ],
)
def test_nothing_is_out_of_reach_on_a_small_phone_or_one_on_its_side(server, worlds, open_page, request, tmp_path):
    page = open_page(request.getfixturevalue(server), **PHONE)
    for world in worlds:
        page.tap(f"#world [data-world={world}]")
        expect(page.locator("figcaption")).to_have_count(1 if world == "dream" else 2)
        page.tap("#overlay")
        until(page, f"state.world === '{world}' && now.step > 0")
        for width, height in ((844, 390), (667, 331), (740, 320), (844, 340), (915, 360), (568, 320), (320, 568)):
            page.set_viewport_size({"width": width, "height": height})
            wait(lambda width=width: page.evaluate("innerWidth") == width)
            page.screenshot(path=tmp_path / f"{world}-{width}x{height}.png")
            assert page.evaluate(OUT_OF_REACH) == [], f"{world} at {width}x{height}"
            if world == "real" and width < height:
                continue  # it scrolls
            assert page.evaluate("document.documentElement.scrollHeight") <= height
            if page.locator("#bend").is_visible():
                page.tap("#bend")
                page.screenshot(path=tmp_path / f"bending-{width}x{height}.png")
                assert page.evaluate(OUT_OF_REACH) == [], f"sliders at {width}x{height}"
                assert page.evaluate("document.documentElement.scrollHeight") <= height
                page.tap("#bend")


def test_a_world_that_cannot_be_opened_says_why_until_it_can(doom, open_page, monkeypatch, tmp_path):
    page = open_page(doom)
    reach(page, 5)
    opens = doom.site.models.open
    reason = "CoinRun's game needs the system's Qt 5: apt install libqt5gui5, or the same of your system"

    def fail(name):
        raise Problem(reason)

    monkeypatch.setattr(doom.site.models, "open", fail)
    page.click("[data-world=real]")
    expect(page.locator("#overlay")).to_contain_text("The game cannot be opened")
    expect(page.locator("#overlay")).to_contain_text(reason)
    page.wait_for_timeout(300)  # in which no later state or frame takes it away
    page.screenshot(path=tmp_path / "unopened.png")
    expect(page.locator("#overlay")).to_contain_text(reason)
    expect(page.locator("#world [data-world=dream]")).to_have_attribute("aria-pressed", "true")
    page.click("#overlay")  # back
    expect(page.locator("#overlay")).to_contain_text("Paused")
    page.click("#overlay")
    reach(page, page.evaluate("window.seen.at(-1).step") + 5)
    page.click("[data-world=real]")
    expect(page.locator("#overlay")).to_contain_text(reason)
    monkeypatch.setattr(doom.site.models, "open", opens)
    page.click("[data-world=real]")
    expect(page.locator("figcaption")).to_have_count(2)
    expect(page.locator("#overlay")).to_contain_text("Play the game")


def test_the_first_world_that_cannot_be_opened_can_be_tried_again(doom, open_page, monkeypatch):
    opens = doom.site.models.open

    def fail(name):
        raise Problem("out of games")

    monkeypatch.setattr(doom.site.models, "open", fail)
    page = open_page(doom, driver=None)
    expect(page.locator("#overlay")).to_contain_text("out of games · press Dream to try again")
    assert page.locator("#overlay").bounding_box()["height"] > 100
    page.keyboard.press("Space")  # there is nothing to go on with
    expect(page.locator("#overlay")).to_contain_text("out of games")
    monkeypatch.setattr(doom.site.models, "open", opens)
    page.click("#world [data-world=dream]")
    expect(page.locator(PLAYING)).to_be_visible()
    expect(page.locator("#overlay")).to_be_hidden()


def test_steps_are_made_one_by_one_and_z_is_bent(doom, open_page, tmp_path):
    """And C goes on driving, from what has become of the dream."""
    page = open_page(doom, driver="controller", viewport={"width": 1280, "height": 760})
    expect(page.locator("#pause")).to_have_text("Pause")
    page.keyboard.press("KeyN")
    expect(page.locator("#pause")).to_have_text("Go on")
    until(page, "state.paused && state.controller")
    (session,) = doom.site.sessions
    step = session.steps
    until(page, f"now.step === {step}")
    page.keyboard.press("KeyN")
    until(page, f"now.step === {step + 1}")
    page.click("#step")
    until(page, f"now.step === {step + 2}")
    expect(page.locator("#overlay")).to_be_hidden()
    expect(page.locator("#meters > *")).to_have_text(
        [re.compile(r"^ending \d+\.\d %$"), re.compile(r"^spread \d\.\d\d$")]
    )
    before = page.evaluate("window.seen.at(-1)")
    sliders = page.locator(".sliders input")
    assert [float(slider.input_value()) for slider in sliders.all()] == pytest.approx(
        np.clip(before["z"], -3, 3), abs=0.03
    )
    sliders.nth(1).fill("-3")
    until(page, "now.z[1] === -3")
    bent = page.evaluate("window.seen.at(-1)")
    assert bent["step"] == step + 2 and bent["pictures"] != before["pictures"]
    assert bent["z"] == [before["z"][0], -3, *before["z"][2:]]
    colours = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{scheme}.png")
        colours.append(page.evaluate("getComputedStyle(document.body).color"))
    assert colours == ["rgb(240, 237, 230)", "rgb(28, 30, 34)"]
    page.click("#pause")
    reach(page, step + 10)
    expect(page.locator("#pause")).to_have_text("Pause")


def test_a_slider_that_is_held_holds_its_number_of_z(doom, open_page):
    page = open_page(doom, viewport={"width": 1280, "height": 760})
    box = page.locator(".sliders input").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    until(page, "now.z[0] > 2.8 && window.seen.slice(-9).every((frame) => frame.z[0] === now.z[0])")
    step = page.evaluate("window.seen.at(-1).step")
    page.mouse.up()
    until(page, f"now.step > {step} + 9 && window.seen.slice(-9).some((frame) => frame.z[0] !== now.z[0])")
    page.keyboard.down("ArrowLeft")  # drives again
    until(page, "now.action[0] === -1")


def test_a_slider_is_held_where_it_stands_already(doom, open_page):
    page = open_page(doom, viewport={"width": 1280, "height": 760})
    reach(page, 1)
    page.click("#pause")
    expect(page.locator("#pause")).to_have_text("Go on")
    slider = page.locator(".sliders input").first
    slider.evaluate("(slider) => { slider.value = slider.max; }")  # where it is pressed
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    until(page, "now.z[0] === 3 && bends.get(0) === 3")
    page.mouse.up()
    wait(lambda: page.evaluate("!bends.size"))


def test_nothing_has_begun_that_could_go_on(doom, open_page):
    page = open_page(doom)
    page.click("[data-world=real]")
    expect(page.locator("#overlay")).to_contain_text("Play the game")
    expect(page.locator("#pause")).to_have_text("Start")
    page.click("#pause")
    reach(page, 3)
    page.click("#pause")
    expect(page.locator("#pause")).to_have_text("Go on")


def test_the_temperature_can_be_set_with_the_keyboard(doom, open_page):
    page = open_page(doom)
    page.keyboard.press("KeyP")
    page.locator("#temperature").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#degrees")).to_have_text("1.30")
    wait(lambda: page.evaluate("state.temperature") == pytest.approx(1.3))
    assert page.evaluate("state.paused && document.activeElement === $('temperature')")
    box = page.locator("#temperature").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] - 50)
    page.mouse.up()  # outside; the arrow keys drive again
    wait(lambda: page.evaluate("state.temperature") == 3)
    assert page.evaluate("document.activeElement !== $('temperature')")


def test_an_older_answer_does_not_undo_a_temperature_that_is_yet_to_be_sent(doom, open_page):
    page = open_page(doom)
    page.evaluate("$('temperature').value = 2; $('temperature').oninput(); settle({ ...state })")
    expect(page.locator("#degrees")).to_have_text("2.00")
    wait(lambda: page.evaluate("state.temperature") == 2)
    assert page.input_value("#temperature") == "2"


def test_a_next_frame_model_is_played_without_c_and_temperature(breakout, open_page, tmp_path):
    page = open_page(breakout, "?seed=5", viewport={"width": 1280, "height": 760})
    expect(page.locator("#overlay")).to_contain_text("it goes on until you restart")
    expect(page.locator("#world button")).to_have_text(["Model", "Game"])
    for name in ("driver", "heat", "best"):
        expect(page.locator(f"#{name}")).to_be_hidden()
    page.keyboard.press("ArrowLeft")  # begins, and is done once, however short
    reach(page, 10)
    seen = page.evaluate("window.seen")
    assert len({frame["pictures"][0] for frame in seen if frame["step"]}) > 5
    assert {frame["action"][0] for frame in seen} == {0, 3} and seen[-1]["action"] == [0]
    expect(page.locator("#unit")).to_have_text("steps predicted")
    assert int(page.inner_text("#total")) >= 10

    still, again, right, fire = (episode(page, key, 8) for key in (None, None, "KeyD", "Space"))
    assert not differ(still, again)
    assert differ(still, right) and differ(still, fire) and differ(right, fire)
    assert page.evaluate("document.querySelector('canvas').width") == 84
    page.keyboard.press("KeyC")  # there is none
    page.keyboard.down("ArrowRight")
    until(page, "now.action[0] === 2")
    expect(page.locator("#axes .on")).to_have_text(["▶ right"])
    page.screenshot(path=tmp_path / "prediction.png")

    page.click("[data-world=real]")
    expect(page.locator("figcaption")).to_have_text(["the game", "what the model predicted"])
    page.keyboard.press("Space")
    until(page, "now.step > 10 && now.action[0] === 2")
    until(page, "now.pictures.length === 2 && now.pictures[0] !== now.pictures[1]")  # while nothing moves, they agree
    expect(page.locator("#unit")).to_have_text("score")
    page.screenshot(path=tmp_path / "predicted.png")


@pytest.mark.parametrize(
    ("held", "action"),
    [
        ([], "nothing"),
        (["KeyA"], "left"),
        (["ArrowLeft", "Space"], "left jump"),
        (["ArrowUp"], "jump"),
        (["ArrowRight", "KeyS"], "right down"),
        (["ArrowRight", "ArrowLeft"], "left"),
        (["ArrowLeft", "KeyW", "ArrowRight"], "right jump"),
    ],
)
def test_keys_held_together_are_one_of_the_choices(coinrun, open_page, held, action):
    page = open_page(coinrun)
    page.click("#overlay")
    for key in held:
        page.keyboard.down(key)
    number = coinrun.site.models.world.action_names.index(action)
    until(page, f"now.step > 2 && now.action[0] === {number}")


def test_a_phone_plays_with_thumbs(coinrun, open_page, tmp_path):
    page = open_page(coinrun, **PHONE)
    page.tap("#overlay")
    for name in ("right", "jump"):
        page.locator("#touch button", has_text=name).dispatch_event("pointerdown", {"pointerId": 1})
    until(page, "now.action[0] === 8")
    page.screenshot(path=tmp_path / "thumbs.png")
    page.locator("#touch button", has_text="right").dispatch_event("pointerup", {"pointerId": 1})
    until(page, "now.action[0] === 5")
    width, height = (page.evaluate(f"document.documentElement.{name}") for name in ("scrollWidth", "scrollHeight"))
    assert (width, height) == (390, 664), "something lies outside of the screen"


PAD = """
window.pad = { connected: true, axes: [0, 0], buttons: Array.from({ length: 16 }, () => ({ pressed: false, value: 0 })) };
navigator.getGamepads = () => [null, window.pad];
"""


def push(page, axes=(0, 0), **buttons):
    """Move the gamepad's stick and press some of its buttons; all others are let go."""
    pressed = {int(name.removeprefix("b")): value for name, value in buttons.items()}
    page.evaluate(
        """([axes, pressed]) => {
          pad.axes = axes;
          pad.buttons = pad.buttons.map((_, i) => ({ pressed: (pressed[i] || 0) > 0.5, value: pressed[i] || 0 }));
        }""",
        [list(axes), pressed],
    )


def test_a_gamepad_drives_a_car(racing, open_page):
    page = open_page(racing, script=PAD)
    page.click("[data-world=real]")
    expect(page.locator("figcaption")).to_have_count(2)
    push(page, b9=1)  # start
    until(page, "now.step > 2 && now.action.every((value) => value === 0)")
    push(page, axes=(-0.5, 0), b7=0.7)
    until(page, "now.action[0] === -0.5 && now.action[1] === 0.7 && now.action[2] === 0")
    push(page, axes=(0.1, 0), b6=0.4)  # a stick is never quite still
    until(page, "now.action[0] === 0 && now.action[1] === 0 && now.action[2] === 0.4")
    push(page, axes=(1, 0), b0=1)
    until(page, "now.action[0] === 1 && now.action[1] === 1")
    push(page)
    until(page, "now.action.every((value) => value === 0)")
    number = page.evaluate("document.body.dataset.episode")
    push(page, b8=1)  # back: once, however long it is held
    until(page, f"now.episode == {int(number) + 1} && now.step > 5")
    push(page, b3=1)  # Y: C takes over
    until(page, "now.controller")
    push(page, axes=(-1, 0))  # who touches the stick drives
    until(page, "!now.controller && now.action[0] === -1")


def test_a_gamepad_moves_in_doom_and_begins_by_itself(doom, open_page):
    page = open_page(doom, script=PAD)
    push(page, axes=(0.8, 0))
    until(page, "now.step > 2 && now.action[0] === 1")
    push(page, b14=1)
    until(page, "now.action[0] === -1")
    push(page)
    until(page, "now.action[0] === 0")


def test_a_gamepad_makes_choices(coinrun, open_page):
    page = open_page(coinrun, script=PAD)
    for pushed, number in (
        ({"axes": (-1, 0), "b0": 1}, 2),  # left jump
        ({"axes": (1, 0.9)}, 6),  # right down
        ({"b12": 1}, 5),  # jump
        ({"axes": (0.3, 0)}, 4),  # nothing
        ({"b15": 1}, 7),  # right
    ):
        push(page, **pushed)
        until(page, f"now.action && now.step > 1 && now.action[0] === {number}")


def test_one_too_many_is_told_so(racing, open_page):
    wait(lambda: not racing.site.sessions)
    pages = [open_page(racing) for _ in range(3)]
    late = open_page(racing, driver=None)
    expect(late.locator("#overlay")).to_contain_text("all 3 sessions are in use")
    pages[0].close()
    wait(lambda: len(racing.site.sessions) == 2)
    late.click("#overlay")
    expect(late.locator(PLAYING)).to_be_visible()


def test_a_page_that_cannot_connect_says_why_in_words_that_can_be_copied(doom, browser, monkeypatch, tmp_path):
    reason = "if that is yours, as behind a proxy, start the player with --allow-host play.example.org"
    refusal = Hosts.refusal
    monkeypatch.setattr(Hosts, "refusal", lambda self, host, origin: origin and reason)
    context = browser.new_context(viewport={"width": 390, "height": 664})
    page = context.new_page()
    page.goto(f"http://{doom.address}/")
    overlay, said = page.locator("#overlay"), page.locator("#overlay span")
    expect(overlay).to_contain_text("Cannot connect")
    expect(said).to_contain_text(reason)
    page.screenshot(path=tmp_path / "refused.png")
    page.evaluate("window.same = true")
    box = said.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] - 2, steps=5)
    page.mouse.up()
    assert "--allow-host play.example.org" in page.evaluate("getSelection().toString()").replace("\n", " ")
    assert page.evaluate("window.same")
    monkeypatch.setattr(Hosts, "refusal", refusal)
    overlay.click()
    expect(page.locator(PLAYING)).to_be_visible()
    context.close()


def test_a_proxy_that_passes_no_websocket_on_is_told_of(doom, browser):
    context = browser.new_context()
    context.add_init_script(
        "const Real = WebSocket; WebSocket = class extends Real { constructor(url) { super(url + '/'); } }"
    )
    page = context.new_page()
    page.goto(f"http://{doom.address}/")
    expect(page.locator("#overlay")).to_contain_text("must pass WebSockets on (the headers Upgrade and Connection)")
    context.close()


SLOW_PICTURES = """
const decode = createImageBitmap;
createImageBitmap = (blob) => new Promise((done) => setTimeout(() => done(decode(blob)), 200));
"""


def test_a_world_that_fails_is_told_of(doom, open_page, monkeypatch):
    """And stays told of, though frames that came before are drawn after it."""
    page = open_page(doom, script=SLOW_PICTURES)
    reach(page, 3)
    (session,) = doom.site.sessions

    def fail(*_):
        raise RuntimeError("the game\n died")

    monkeypatch.setattr(session.scene, "step", fail)
    expect(page.locator("#overlay")).to_contain_text("Closed")
    expect(page.locator("#overlay")).to_contain_text("RuntimeError: the game died · tap to connect again")
    wait(lambda: not doom.site.sessions)
    page.wait_for_timeout(1000)
    page.click("#overlay")
    expect(page.locator(PLAYING)).to_be_visible()
