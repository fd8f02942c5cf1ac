"""The player without a browser: its protocol, what it refuses, its limits, and that worlds are freed."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types

import imageio_ffmpeg
import numpy as np
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from envs.worlds import WORLDS
from experiment.hardware import prepare
from experiment.pretrained import find_run
from experiment.problem import Problem, UsageProblem
from experiment.run import PRETRAINED, Run
from experiment.schema import Hardware
from play.__main__ import serve
from play.agent import for_one
from play.messages import LONGEST, SEEDS, Meter, Refused, axes_of, parse
from play.models import load_models
from play.places import DreamPlace
from play.recorder import Recordings
from play.server import IN_FLIGHT, LARGEST, allowed_hosts, is_local, listen_on, reachable_at
from play.session import Session
from play.wire import pack_frame, unpack_frame
from tests.player import Page, doom_run, models, next_frame_run, serving, wait

ONE, THREE = axes_of(WORLDS["doom"]), axes_of(WORLDS["carracing"])
CHOICE = axes_of(WORLDS["coinrun"])


@pytest.fixture(scope="module")
def doom():
    with serving(models("doom")) as server:
        yield server


@pytest.fixture(scope="module")
def racing():
    with serving(models("carracing")) as server:
        yield server


@pytest.fixture(scope="module")
def breakout():
    with serving(models("breakout")) as server:
        yield server


@pytest.fixture(autouse=True)
def freed(request):
    """After every test, all sessions of all servers are gone."""
    yield
    for name in {"doom", "racing", "breakout"} & set(request.fixturenames):
        wait(lambda name=name: not request.getfixturevalue(name).player.sessions)


def get(server, path, **headers):
    """Status, headers and body of a page."""
    connection = http.client.HTTPConnection(server.address, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def same(first, second):
    """Whether two episodes are alike where both were seen, which must be somewhere beyond their first frame."""
    steps = set(first) & set(second) - {0}
    assert steps
    return all(np.array_equal(first[step], second[step]) for step in steps)


@pytest.mark.parametrize(
    ("message", "axes"),
    [
        ({"type": "input", "seen": 3, "action": [-1]}, ONE),
        ({"type": "input", "seen": 0, "action": [-0.5, 1, 0.25]}, THREE),
        ({"type": "input", "seen": 0, "action": [14]}, CHOICE),
        ({"type": "input", "seen": 0, "action": [0]}, CHOICE),
        ({"type": "world", "name": "real"}, ONE),
        ({"type": "restart", "seed": None}, ONE),
        ({"type": "restart", "seed": SEEDS - 1}, ONE),
        ({"type": "temperature", "value": 1}, ONE),
        ({"type": "record", "on": False}, ONE),
    ],
)
def test_messages_of_the_page_are_taken(message, axes):
    assert parse(json.dumps(message), axes) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[" * 500, "not JSON"),
        ("[]", "not an object"),
        ('{"type": ["input"]}', "not an object"),
        ('{"type": "shell", "on": true}', "no message of this type"),
        ('{"type": "pause"}', "has the keys"),
        ('{"type": "pause", "on": true, "more": 1}', "has the keys"),
        ('{"type": "pause", "on": 1}', "wrong value for on"),
        ('{"type": "world", "name": "../doom"}', "wrong value for name"),
        ('{"type": "restart", "seed": -1}', "wrong value for seed"),
        ('{"type": "restart", "seed": 2147483648}', "wrong value for seed"),
        ('{"type": "restart", "seed": 1.5}', "wrong value for seed"),
        ('{"type": "temperature", "value": 0}', "wrong value for value"),
        ('{"type": "temperature", "value": NaN}', "wrong value for value"),
        ('{"type": "temperature", "value": true}', "wrong value for value"),
        ('{"type": "temperature", "value": "1"}', "wrong value for value"),
        ('{"type": "input", "seen": true, "action": [0]}', "wrong value for seen"),
        ('{"type": "input", "seen": 0, "action": 0}', "wrong value for action"),
        ('{"type": "input", "seen": 0, "action": []}', "wrong value for action"),
        ('{"type": "input", "seen": 0, "action": [0, 0]}', "wrong value for action"),
        ('{"type": "input", "seen": 0, "action": [1.01]}', "wrong value for action"),
        ('{"type": "input", "seen": 0, "action": [Infinity]}', "wrong value for action"),
        ('{"type": "input", "seen": 0, "action": [[0]]}', "wrong value for action"),
        (f'{{"type": "input", "seen": 0, "action": [{"9" * 400}]}}', "wrong value for action"),
        (f'{{"type": "temperature", "value": {"9" * 400}}}', "wrong value for value"),
    ],
)
def test_anything_else_is_refused(text, reason):
    with pytest.raises(Refused, match=reason):
        parse(text, ONE)


@pytest.mark.parametrize("value", [-1, 15, 7.5])
def test_a_choice_that_there_is_not_is_refused(value):
    with pytest.raises(Refused, match=r"wrong value for action: expected 1 of numbers, 0 to 14 \(whole\)"):
        parse(json.dumps({"type": "input", "seen": 0, "action": [value]}), CHOICE)


def test_messages_are_counted_by_the_clock():
    now = [0.0]
    meter = Meter(rate=10, burst=5, clock=lambda: now[0])
    assert [meter.allows() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] = 0.35
    assert [meter.allows() for _ in range(3)] == [True, False, False]
    now[0] = 100.0
    assert [meter.allows() for _ in range(6)] == [True] * 5 + [False]


def test_a_frame_comes_out_as_it_went_in():
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (64, 64, 3), np.uint8)
    large = np.tile(np.array([200, 100, 20], np.uint8), (120, 160, 1))
    about, pictures = unpack_frame(pack_frame({"step": 7}, [small, large]))
    assert about["step"] == 7
    np.testing.assert_array_equal(pictures[0], small)
    assert pictures[1].shape == large.shape and np.abs(pictures[1].astype(int) - large).max() < 10


def test_the_page_needs_nothing_from_elsewhere(doom):
    status, headers, body = get(doom, "/")
    assert status == 200 and "default-src 'self'" in headers["content-security-policy"]
    for name in ("play.js", "play.css"):
        assert name.encode() in body
        status, _, part = get(doom, f"/{name}")
        assert status == 200
        body += part
    assert b"http:" not in body and b"https:" not in body.replace(b'"https:" ? "wss:"', b"")
    assert get(doom, "/../server.py")[0] == get(doom, "/nothing")[0] == 404


def test_a_session_begins_still_and_then_moves_at_the_worlds_own_speed(doom):
    with Page(doom) as page:
        assert (page.hello["fps"], page.hello["step"], page.hello["missing"]) == (35, "tic", {})
        assert page.hello["axes"] == [{"name": "move", "low": -1.0, "high": 1.0, "whole": False}]
        assert (page.hello["kind"], page.hello["choices"]) == ("agent", None)
        assert page.hear("state")["paused"]
        time.sleep(0.2)
        page.say("pause", on=False)
        first = page.frame()[0]
        assert first["step"] <= 2
        began, step = time.monotonic(), 0
        while time.monotonic() - began < 1:
            about, (picture,) = page.frame()
            assert about["step"] > step and about["total"] == about["step"] and picture.shape == (64, 64, 3)
            step = about["step"]
        taken = time.monotonic() - began
        assert 5 < step - first["step"] < 35 * (taken + 0.3) + 1  # up to 0.25 s are made up for


def test_what_is_pressed_and_the_temperature_change_the_dream_and_nothing_else_does(doom):
    with Page(doom) as page:
        left, again, right = (page.drive(5, 12, [action]) for action in (-1, -1, 1))
        assert same(left, again) and not same(left, right)
        page.say("temperature", value=3)
        assert page.hear("state", lambda state: state["temperature"] == 3)
        assert not same(left, page.drive(5, 12, [-1]))
        page.say("temperature", value=doom.player.models.settings.dream.temperature)
        assert same(left, page.drive(5, 12, [-1]))
        assert not same(left, page.drive(6, 12, [-1]))


def test_c_takes_over_and_hands_back(doom):
    """C does in its session what it does by itself."""
    alone = DreamPlace(doom.player.models)
    alone.begin(9)
    expected = []
    for _ in range(15):
        expected.append(float(doom.player.models.world.execute(alone.advice)))
        alone.step(alone.advice, doom.player.models.settings.dream.temperature)
    with Page(doom) as page:
        page.say("controller", on=True)
        assert not page.hear("state", lambda state: state["controller"])["paused"]
        page.say("restart", seed=9)
        before, done = page.episode, {}
        while max(done, default=0) < 15:
            about, _ = page.frame(lambda about: about["episode"] > before)
            if about["step"]:
                assert about["controller"]
                done[about["step"]] = about["action"][0]
        assert all(done[step] == expected[step - 1] for step in done if step <= 15)
        page.action = [-1.0]
        page.say("controller", on=False)
        page.hear("state", lambda state: not state["controller"])
        page.frame(lambda about: not about["controller"] and about["action"] == [-1.0])
        page.action = [1.0]
        page.frame(lambda about: about["action"] == [1.0])


def test_a_car_has_three_axes_and_its_dream_is_cut_and_begun_again(racing):
    with Page(racing) as page:
        assert [axis["name"] for axis in page.hello["axes"]] == ["steer", "gas", "brake"]
        assert (page.hello["fps"], page.hello["axes"][1]["low"]) == (50, 0.0)
        seen = page.drive(1, 20, [-0.5, 0.25, 0.0])
        assert max(seen) == 20
        with pytest.raises(TimeoutError):
            page.socket.recv(timeout=0.3)
        page.drive(1, 3)
        about, _ = page.frame(lambda about: about["over"])
        assert (about["over"], about["step"], about["action"]) == ("cut", 20, [-0.5, 0.25, 0.0])
        assert about["total"] != 0
        page.say("controller", on=True)  # which begins again by itself
        episode = page.frame(lambda about: about["controller"] and about["step"] == 1)[0]["episode"]
        page.frame(lambda about: about["episode"] > episode)


def test_the_real_track_is_driven_beside_vs_picture(racing):
    with Page(racing) as page:
        page.say("world", name="real")
        assert page.hear("state", lambda state: state["world"] == "real")["labels"] == [
            "the game",
            "what V keeps of it",
        ]
        coast, gas = (page.drive(3, 25, [0.0, value, 0.0]) for value in (0.0, 1.0))
        assert coast[max(coast)].shape == (400, 600, 3) and not same(coast, gas)
        assert page.frame()[1][1].shape == (64, 64, 3)


def test_a_prediction_is_what_the_model_predicts_from_its_own_predictions(breakout):
    """Driven in a session, it is a plain loop of the model, from a held-out window, and does not end."""
    own = breakout.player.models
    model, starts, raw = own.predictor.model, own.starts, own.world.unexecute(np.float32(2))
    with Page(breakout) as page:
        assert (page.hello["kind"], page.hello["fps"], page.hello["missing"].keys()) == (
            "nextframe",
            15,
            {"controller"},
        )
        assert page.hello["choices"] == [["nothing"], ["fire"], ["right"], ["left"]] and page.hello["rest"] == 0
        state = page.hear("state", lambda state: state["labels"])
        assert (state["world"], state["scored"], state["labels"]) == ("dream", False, ["what the model predicts"])
        seen = page.drive(7, 12, [2])
        assert same(seen, page.drive(7, 12, [2])) and not same(seen, page.drive(8, 12, [2]))
        assert not same(seen, page.drive(7, 12, [3])) and not same(seen, page.drive(7, 12, [0]))
        page.say("controller", on=True)  # there is none
        assert not page.hear("state")["controller"]
    (chosen,) = np.random.default_rng(7).integers(len(starts.frames), size=1)
    window, actions = starts.frames[chosen][None] / np.float32(255), [*starts.actions[chosen]]
    expected = {0: window[0, -1]}
    for step in range(1, max(seen) + 1):
        actions.append(raw)
        predicted = np.asarray(model.next_frame(window, np.array([actions[-4:]], "float32")))
        window = np.concatenate([window[:, 1:], predicted[:, None]], axis=1)
        expected[step] = predicted[0]
    assert max(seen) >= 12 and len(starts.frames) > 50
    for step, picture in seen.items():
        assert picture.shape == (84, 84, 3)
        assert np.abs(picture / 255 - expected[step]).max() < 0.01


def test_a_real_game_is_beside_what_was_predicted_of_each_of_its_frames(breakout):
    own = breakout.player.models
    place = own.open("real")
    place.begin(3)
    recorded, raws = [place.pictures[0]] * 4, [own.world.unexecute(np.float32(0))] * 3
    for action in (1, 2, 2, 3, 0, 3):
        raws.append(own.world.unexecute(np.float32(action)))
        happened = place.step(np.float32(raws[-1]), 1.0)
        window = np.stack(recorded[-4:])[None, ..., :1]
        expected = np.asarray(own.predictor.model.next_frame(window, np.array([raws[-4:]], "float32")))[0]
        assert np.abs(place.pictures[1] / 255 - expected).max() < 0.01
        recorded.append(place.pictures[0])
        assert not happened.died and not happened.cut
    place.close()
    assert np.any(recorded[-1] != recorded[0])
    with Page(breakout) as page:
        page.say("world", name="real")
        state = page.hear("state", lambda state: state["world"] == "real" and state["labels"])
        assert state["labels"] == ["the game", "what the model predicted"] and state["scored"]
        left, right = page.drive(3, 12, [3]), page.drive(3, 12, [2])
        assert not same(left, right) and left[max(left)].shape == (84, 84, 3)
        assert page.frame()[1][1].shape == (84, 84, 3)


def test_a_model_without_recorded_windows_can_still_be_played_beside(breakout, tmp_path):
    run = next_frame_run("breakout", tmp_path)
    shutil.rmtree(run.rollouts)
    without = load_models(run)
    assert set(without.missing) == {"controller", "dream"} and "has no rollouts" in without.missing["dream"]
    session = Session(without, breakout.player.recordings, lambda: None)
    assert session.wishes.world == "real"
    run.nextframe_weights.unlink()
    with pytest.raises(Problem, match=r"vae\.weights\.h5 is missing"):
        load_models(run)


def test_a_batch_of_one_is_computed_in_float32_unless_told_otherwise(monkeypatch):
    peaks = {"bfloat16": 9.0, "float32": 1.0}
    monkeypatch.setattr("experiment.hardware.matmul_peak", lambda dtype, size: peaks[dtype])
    monkeypatch.setattr("experiment.hardware.may_be_faster", lambda: True)
    for asked, used in (("auto", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")):
        assert prepare(for_one(Hardware(precision=asked))).precision == used
    assert prepare(Hardware()).precision == "bfloat16"


def test_who_touches_nothing_does_what_the_world_calls_nothing(tmp_path):
    coinrun = models("coinrun")
    assert coinrun.world.action_names[int(coinrun.world.rest)] == "nothing"
    session = Session(coinrun, None, lambda: None)
    assert coinrun.world.execute(session.raw) == 4 and session.wishes.action.tolist() == [4.0]


def test_a_closed_page_frees_its_game(doom):
    page = Page(doom)
    page.say("world", name="real")
    page.hear("state", lambda state: state["world"] == "real")
    left = page.drive(3, 10, [-1])
    assert left[max(left)].shape == (120, 160, 3)
    assert not same(left, page.drive(3, 10, [1]))
    (session,) = doom.player.sessions
    pid = session.place.vector.games[0].engine.pid
    os.kill(pid, 0)  # it is there
    page.socket.socket.close()  # without a word
    wait(lambda: not doom.player.sessions)
    assert not session.is_alive() and session.place is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_going_back_to_the_dream_frees_the_game_too(doom):
    with Page(doom) as page:
        page.say("world", name="real")
        page.hear("state", lambda state: state["world"] == "real")
        (session,) = doom.player.sessions
        wait(lambda: session.place.vector.games[0].engine)
        pid = session.place.vector.games[0].engine.pid
        page.say("world", name="dream")
        page.hear("state", lambda state: state["world"] == "dream")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert len(page.drive(1, 3)) > 1


def test_there_are_so_many_sessions_and_no_more(doom):
    pages = [Page(doom) for _ in range(3)]
    late = connect(f"ws://{doom.address}/socket", legacy=True)
    refusal = json.loads(late.recv(timeout=30))
    assert refusal["closed"] and "all 3 sessions are in use" in refusal["message"]
    with pytest.raises(Exception, match="1013"):
        late.recv(timeout=30)
    pages[0].close()
    wait(lambda: len(doom.player.sessions) == 2)
    with Page(doom) as page:
        assert len(page.drive(1, 3)) > 1
    for page in pages[1:]:
        page.close()


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        (["nonsense"] * 6, 1008, "not JSON"),
        ([b"\x00\x01"] * 6, 1008, "messages are text"),
        (['{"type": "pause", "on": true}' + " " * LONGEST], 1009, "at most 512 bytes"),
        (["é" * (LONGEST // 2 + 1)], 1009, "at most 512 bytes"),
        (["x" * (LARGEST + 1)], 1009, None),
        (['{"type": "pause", "on": true}'] * 400, 1008, "too many messages"),
    ],
    ids=["malformed", "binary", "too large", "too many bytes", "huge", "too frequent"],
)
def test_who_misbehaves_is_told_and_closed_and_nobody_else_notices(doom, messages, code, reason):
    with Page(doom) as good, Page(doom) as bad:
        expected = good.drive(5, 5, [-1])
        for message in messages:
            try:
                bad.socket.send(message)
            except Exception:  # it is closed already
                break
        assert bad.closed() == code
        errors = [each for each in bad.news if each["type"] == "error"]
        if reason is not None:
            assert reason in errors[-1]["message"] and errors[-1]["closed"]
            assert not any(each["closed"] for each in errors[:-1])
        wait(lambda: len(doom.player.sessions) == 1)
        assert same(good.drive(5, 5, [-1]), expected)
        assert not [each for each in good.news if each["type"] == "error"]


def test_one_mistake_is_forgiven(doom):
    with Page(doom) as page:
        page.say("temperature", value=-1)
        error = page.hear("error")
        assert "wrong value for value" in error["message"] and not error["closed"]
        assert len(page.drive(1, 3)) > 1


def test_a_page_that_takes_nothing_gets_nothing_and_slows_nobody(doom):
    slow = connect(f"ws://{doom.address}/socket", legacy=True)
    slow.send('{"type": "pause", "on": false}')
    with Page(doom) as page:
        page.drive(1, 40)
        frames = 0
        with pytest.raises(TimeoutError):
            while True:
                frames += isinstance(slow.recv(timeout=0.5), bytes)
        assert frames == IN_FLIGHT
        slow.send(json.dumps({"type": "input", "seen": IN_FLIGHT, "action": [0]}))
        about, _ = unpack_frame(slow.recv(timeout=30)[4:])
        assert about["step"] > IN_FLIGHT + 5  # the newest, not the next
    slow.close()


def test_two_at_once_have_a_world_each(doom):
    with Page(doom) as first, Page(doom) as second:
        expected = first.drive(5, 12, [-1])
        second.say("world", name="real")
        second.hear("state", lambda state: state["world"] == "real")
        second.say("pause", on=False)
        second.frame(lambda about: about["step"] > 3)
        assert same(first.drive(5, 12, [-1]), expected)
        second.say("pause", on=True)
        step = second.hear("state", lambda state: state["paused"]) and max(s.steps for s in doom.player.sessions)
        assert same(first.drive(5, 12, [-1]), expected) and step > 3


def test_a_recording_is_a_video_that_plays(doom, tmp_path):
    with Page(doom) as page:
        page.drive(1, 2, [1])
        page.say("record", on=True)
        page.hear("state", lambda state: state["recording"])
        step = page.frame()[0]["step"]
        page.frame(lambda about: about["step"] > step + 20)
        page.say("record", on=False)
        recorded = page.hear("recorded")
        assert not page.hear("state")["recording"]
        status, headers, body = get(doom, f"/{recorded['url']}")
        assert (status, headers["content-type"]) == (200, "video/mp4")
        assert headers["content-disposition"].startswith("attachment")
    path = tmp_path / "video.mp4"
    path.write_bytes(body)
    about, *frames = imageio_ffmpeg.read_frames(path)
    assert (
        about["fps"] == 35
        and about["size"] == (384, 412)
        and len(frames) == pytest.approx(35 * recorded["seconds"], abs=2)
    )
    assert len(frames) > 20 and np.any(np.frombuffer(frames[0], "uint8") != np.frombuffer(frames[-1], "uint8"))
    assert get(doom, "/recordings/other.mp4")[0] == get(doom, "/recordings/..%2f..%2fserver.py")[0] == 404


def test_a_world_that_cannot_be_had_leaves_the_one_there_is(doom, monkeypatch):
    opens = doom.player.models.open
    with Page(doom) as page:

        def fail(name):
            raise Problem("out of games")

        monkeypatch.setattr(doom.player.models, "open", fail)
        for _ in range(2):  # to ask again is to try again
            page.say("world", name="real")
            assert page.hear("unopened") == {"type": "unopened", "world": "real", "message": "out of games"}
            assert page.hear("state")["world"] == "dream"
        assert len(page.drive(1, 3)) > 1
        monkeypatch.setattr(doom.player.models, "open", opens)
        page.say("world", name="real")
        page.hear("state", lambda state: state["world"] == "real")
        assert len(page.drive(1, 3)) > 1


def test_a_world_that_opens_but_does_not_begin_is_closed(doom, monkeypatch):
    closed = []

    class Broken:
        def begin(self, seed):
            raise RuntimeError("the game died")

        def close(self):
            closed.append(True)

    with Page(doom) as page:
        monkeypatch.setattr(doom.player.models, "open", lambda name: Broken())
        page.say("world", name="real")
        assert page.hear("unopened")["message"] == "something went wrong: RuntimeError: the game died"
        assert closed and len(page.drive(1, 3)) > 1


def test_short_recordings_do_not_drop_one_that_still_runs(monkeypatch):
    monkeypatch.setattr("play.recorder.KEPT", 2)
    picture = np.zeros((64, 64, 3), np.uint8)
    with Recordings() as recordings:

        def record():
            recorder = recordings.begin(35)
            assert recorder.add([picture], ["dream"])
            return recorder

        long = record()
        short = [recordings.finish(record())[0].removeprefix("recordings/") for _ in range(4)]
        assert recordings.find(long.path.name) is None, "it is not finished"
        url, _ = recordings.finish(long)
        assert url == f"recordings/{long.path.name}" and recordings.find(long.path.name) == long.path
        assert [recordings.find(name) is not None for name in short] == [False, False, False, True]
        assert {path.name for path in long.path.parent.iterdir()} == {short[-1], long.path.name}


def test_other_web_sites_have_no_business_here(doom):
    for origin in ("http://example.com", f"http://{doom.address}.example.com", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://{doom.address}/socket", legacy=True, origin=origin)
    with Page(doom, origin=f"http://{doom.address}") as page:
        assert page.hello["type"] == "hello"
    assert get(doom, "/", Host="example.com")[0] == 400  # a name that was pointed here
    assert allowed_hosts("0.0.0.0") == ["*"] and is_local("::1") and not is_local("192.168.0.1")


def test_a_run_without_m_can_still_be_looked_at(doom, tmp_path):
    run = doom_run(tmp_path)
    run.rnn_weights.unlink()
    without = load_models(run)
    assert set(without.missing) == {"dream", "controller"} and "rnn.weights.h5" in without.missing["dream"]
    session = Session(without, doom.player.recordings, lambda: None)
    assert session.wishes.world == "real"
    session.hear({"type": "controller", "on": True})
    assert not session.wishes.controller


def test_runs_are_found_by_name_and_the_last_iteration_is_taken(tmp_path):
    assert find_run("doom").path == PRETRAINED / "doom"
    for number in (1, 2, 3):
        run = Run(tmp_path).at(number)
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.touch()
        if number < 3:
            run.controller.touch()
    assert find_run(str(tmp_path)).path == tmp_path / "iterations" / "2"
    with pytest.raises(UsageProblem, match="neither shipped"):
        find_run(str(tmp_path / "none"))


def test_a_server_for_all_says_where_others_reach_it(monkeypatch, capsys):
    server = types.SimpleNamespace(run=lambda sockets: None)
    monkeypatch.setattr("play.models.load_models", lambda run: models("doom"))
    monkeypatch.setattr("play.server.make_server", lambda player: server)
    serve("doom", "0.0.0.0", 0, sessions=1)
    said = capsys.readouterr().out
    assert f"open http://{reachable_at('0.0.0.0')}:" in said and "0.0.0.0" not in said
    assert "on this machine http://localhost:" in said
    assert reachable_at("127.0.0.1") == "127.0.0.1" and reachable_at("::1") == "::1"

    def unreachable(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", unreachable)
    assert reachable_at("0.0.0.0") == reachable_at("::") == socket.gethostname()


def test_mistakes_in_the_command_are_one_line():
    for arguments, reason in ((["nothing"], "nothing is neither shipped ("), (["--sessions", "0"], "--sessions 0: ")):
        command = [sys.executable, "-m", "play", "--port", "0", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {reason}") and done.stderr.count("\n") == 1
    with listen_on("127.0.0.1", 0) as first, pytest.raises(Problem, match="choose another with --host or --port"):
        listen_on("127.0.0.1", first.getsockname()[1])
    with pytest.raises(Problem, match="--port 70000"):
        listen_on("127.0.0.1", 70000)
