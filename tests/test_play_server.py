"""The player without a browser: its protocol, what it refuses, its limits, and that worlds are freed."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import socket
import time
import types

import imageio_ffmpeg
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from envs.worlds import WORLDS
from experiment.hardware import prepare
from experiment.problem import Problem, UsageProblem, one_line
from experiment.run import PRETRAINED
from experiment.schema import Hardware
from play.__main__ import serve
from play.agent import for_one, most_seen
from play.hosts import TOLD, Hosts, Terminal, is_local
from play.messages import LONGEST, SEEDS, Meter, Refused, axes_of, pack_frame, parse
from play.models import load_models
from play.recorder import Recordings
from play.scenes import Scene
from play.server import IN_FLIGHT, LARGEST, Flow, listen_on, reachable_at
from play.session import Session
from tests.commands import python
from tests.player import Page, doom_run, models, next_frame_run, server_of, serving, unpack_frame, wait
from vae.model import VAE

ONE, THREE = axes_of(WORLDS["doom"]), axes_of(WORLDS["carracing"])
CHOICE = axes_of(WORLDS["coinrun"])


doom, racing, breakout = map(server_of, ("doom", "carracing", "breakout"))


@pytest.fixture(autouse=True)
def freed(request):
    """After every test, all sessions of all servers are gone."""
    yield
    for name in {"doom", "racing", "breakout"} & set(request.fixturenames):
        wait(lambda name=name: not request.getfixturevalue(name).site.sessions)


def get(server, path, **headers):
    """Status, headers and body of a page."""
    with contextlib.closing(http.client.HTTPConnection(server.address, timeout=30)) as connection:
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
        ({"type": "step"}, ONE),
        ({"type": "bend", "values": [None, -3, 0.5, None, None, 3.0]}, ONE),
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
        ('{"type": "step", "on": true}', "has the keys type"),
        ('{"type": "bend", "values": 1}', "wrong value for values"),
        ('{"type": "bend", "values": [0, 0, 0, 0, 0, 0, 0]}', "wrong value for values"),
        ('{"type": "bend", "values": [0, 0, 0, 0, 0, 3.1]}', "wrong value for values"),
        ('{"type": "bend", "values": [0, 0, 0, 0, 0, NaN]}', "wrong value for values"),
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


def test_messages_are_counted_by_the_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("play.messages.RATE", 10)
    monkeypatch.setattr("play.messages.BURST", 5)
    monkeypatch.setattr("play.messages.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    meter = Meter()
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
        page.say("temperature", value=doom.site.models.settings.dream.temperature)
        assert same(left, page.drive(5, 12, [-1]))
        assert not same(left, page.drive(6, 12, [-1]))


def test_c_takes_over_and_hands_back(doom):
    """C does in its session what it does by itself."""
    alone = doom.site.models.open("dream")
    alone.begin(9)
    expected = []
    for _ in range(15):
        expected.append(float(doom.site.models.world.execute(alone.advice)))
        alone.step(alone.advice, doom.site.models.settings.dream.temperature)
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


def test_single_steps_and_bends_are_made_while_it_is_paused(doom):
    with Page(doom) as page:
        page.drive(5, 3, [-1])
        page.say("step")
        assert page.hear("state", lambda state: state["paused"])
        with pytest.raises(TimeoutError):
            while True:  # what is still under way
                page.take(patience=0.3)
        (session,) = doom.site.sessions
        steps = session.steps
        page.say("step")
        after, (picture,) = page.frame()
        page.say("bend", values=[None, 2.5, None, None, None, None])
        page.say("bend", values=[None] * 6)  # let go at once, and yet it was bent
        bent, (other,) = page.frame()
        assert after["step"] == bent["step"] == steps + 1
        assert bent["z"] == [after["z"][0], 2.5, *after["z"][2:]] and np.any(picture != other)
        with pytest.raises(TimeoutError):
            page.take(patience=0.3)
        page.say("step")
        assert page.frame()[0]["z"][1] != 2.5
        page.say("bend", values=[None, 2.5, None, None, None, None])
        page.say("step")  # held
        assert page.frame(lambda about: about["step"] == steps + 3)[0]["z"][1] == 2.5
        page.say("world", name="real")  # where z is what V sees
        page.hear("state", lambda state: state["world"] == "real")
        page.say("bend", values=[2.5] * 6)
        assert page.drive(5, 3)
        about, _ = page.frame()
        assert about["z"] == [] and about["expected"].keys() == {"ending", "spread"}


def test_a_bent_dream_goes_on_from_there_and_m_expects_what_it_says(doom):
    own = doom.site.models
    place, temperature = own.sliders[0], 1.3
    straight, bent = own.open("dream"), own.open("dream")
    for scene in (straight, bent):
        scene.begin(5)
        assert scene.expected == {}  # M remembers nothing yet
        scene.step(own.raw(own.rest), temperature)
        np.testing.assert_array_equal(scene.z, straight.z)
    bent.bend({place: 3.0})
    assert np.flatnonzero(bent.z != straight.z).tolist() == [place] and bent.z[place] == 3
    np.testing.assert_array_equal(bent.pictures[0], own.vae.pictures(bent.z[None])[0])
    assert np.any(bent.pictures[0] != straight.pictures[0])
    for scene in (straight, bent):
        scene.step(own.raw(own.rest), temperature)
    assert np.all(bent.z != straight.z)

    predicted = own.rnn.head(bent.dreams.state.h)
    log_mix, mean, log_std = (part.numpy() for part in predicted.mixture)
    weight, std = np.exp(log_mix / temperature)[0], (np.exp(log_std) * temperature**0.5)[0]  # (K, Z)
    weight = weight / weight.sum(axis=0)
    draws = np.random.default_rng(0).standard_normal((20_000, *mean.shape[1:])) * std + mean[0]
    middle = (weight * draws).sum(axis=1).mean(axis=0)
    variance = (weight * np.square(draws - middle)).sum(axis=1).mean(axis=0)
    assert bent.expected["spread"] == pytest.approx(np.sqrt(variance).mean(), rel=0.02)
    ending = 1 / (1 + 10 * np.exp(-predicted.done_logit.numpy()[0]))  # endings count ten times in the loss
    assert bent.expected["ending"] == pytest.approx(ending, rel=1e-4)
    assert own.meters == {"ending": pytest.approx(1 / 11), "spread": 1.0}


def test_sliders_are_of_what_changes_the_picture_most():
    vae = VAE(9)
    kernel = vae.decoder.layers[0].kernel
    kernel.assign(kernel * np.array([0, 3, 0, 3, 3, 3, 3, 3, 0])[:, None])
    assert sorted(most_seen(vae, np.zeros(9))) == [1, 3, 4, 5, 6, 7]


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
    own = breakout.site.models
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
    own = breakout.site.models
    scene = own.open("real")
    scene.begin(3)
    recorded, raws = [scene.pictures[0]] * 4, [own.world.unexecute(np.float32(0))] * 3
    for action in (1, 2, 2, 3, 0, 3):
        raws.append(own.world.unexecute(np.float32(action)))
        _, died, cut = scene.step(np.float32(raws[-1]), 1.0)
        window = np.stack(recorded[-4:])[None, ..., :1]
        expected = np.asarray(own.predictor.model.next_frame(window, np.array([raws[-4:]], "float32")))[0]
        assert np.abs(scene.pictures[1] / 255 - expected).max() < 0.01
        recorded.append(scene.pictures[0])
        assert not died and not cut
    scene.close()
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
    session = Session(without, breakout.site.recordings, lambda: None)
    assert session.wishes.world == "real"
    run.nextframe_weights.unlink()
    with pytest.raises(Problem, match=r"vae\.weights\.h5 is missing"):
        load_models(run)


def test_a_batch_of_one_is_computed_in_float32_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("experiment.hardware.faster_precision", lambda: "bfloat16")
    for asked, used in (("auto", "float32"), ("bfloat16", "bfloat16"), ("float32", "float32")):
        assert prepare(for_one(Hardware(precision=asked))) == used
    assert prepare(Hardware()) == "bfloat16"


def test_who_touches_nothing_does_what_the_world_calls_nothing():
    coinrun = models("coinrun")
    assert coinrun.world.action_names[int(coinrun.world.rest)] == "nothing"
    session = Session(coinrun, None, lambda: None)
    assert coinrun.world.execute(session.raw) == 4 and session.action.tolist() == [4.0]


def test_a_closed_page_frees_its_game(doom):
    page = Page(doom)
    page.say("world", name="real")
    page.hear("state", lambda state: state["world"] == "real")
    left = page.drive(3, 10, [-1])
    assert left[max(left)].shape == (120, 160, 3)
    assert not same(left, page.drive(3, 10, [1]))
    (session,) = doom.site.sessions
    pid = session.scene.vector.games[0].engine.pid
    os.kill(pid, 0)  # it is there
    page.socket.socket.close()  # without a word
    wait(lambda: not doom.site.sessions)
    assert not session.is_alive()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_going_back_to_the_dream_frees_the_game_too(doom):
    with Page(doom) as page:
        page.say("world", name="real")
        page.hear("state", lambda state: state["world"] == "real")
        (session,) = doom.site.sessions
        wait(lambda: session.scene.vector.games[0].engine)
        pid = session.scene.vector.games[0].engine.pid
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
    wait(lambda: len(doom.site.sessions) == 2)
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
        wait(lambda: len(doom.site.sessions) == 1)
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
        step = second.hear("state", lambda state: state["paused"]) and max(s.steps for s in doom.site.sessions)
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
    opens = doom.site.models.open
    with Page(doom) as page:

        def fail(name):
            raise Problem("out of games")

        monkeypatch.setattr(doom.site.models, "open", fail)
        for _ in range(2):  # to ask again is to try again
            page.say("world", name="real")
            assert page.hear("unopened") == {"type": "unopened", "world": "real", "message": "out of games"}
            assert page.hear("state")["world"] == "dream"
        assert len(page.drive(1, 3)) > 1
        monkeypatch.setattr(doom.site.models, "open", opens)
        page.say("world", name="real")
        page.hear("state", lambda state: state["world"] == "real")
        assert len(page.drive(1, 3)) > 1


def test_a_world_that_opens_but_does_not_begin_is_closed(doom, monkeypatch):
    closed = []

    class Broken(Scene):
        def begin(self, seed):
            raise RuntimeError("the game died")

        def close(self):
            closed.append(True)

    with Page(doom) as page:
        monkeypatch.setattr(doom.site.models, "open", lambda name: Broken())
        page.say("world", name="real")
        assert page.hear("unopened")["message"] == "something went wrong: RuntimeError: the game died"
        assert closed and len(page.drive(1, 3)) > 1


def test_short_recordings_do_not_drop_one_that_still_runs(monkeypatch):
    monkeypatch.setattr("play.recorder.KEPT", 2)
    picture = np.zeros((64, 64, 3), np.uint8)
    with contextlib.closing(Recordings()) as recordings:

        def record():
            recorder = recordings.begin(35)
            assert recorder.add([picture], ["dream"])
            return recorder

        long = record()
        short = [recordings.finish(record())[0].removeprefix("recordings/") for _ in range(4)]
        assert long.path.name not in recordings.finished, "it is not finished"
        url, _ = recordings.finish(long)
        assert url == f"recordings/{long.path.name}" and recordings.finished[long.path.name] == long.path
        assert [name in recordings.finished for name in short] == [False, False, False, True]
        assert {path.name for path in long.path.parent.iterdir()} == {short[-1], long.path.name}


def test_why_a_recording_failed_is_told(monkeypatch, capfd):
    def refuse(*_):
        raise OSError("ffmpeg could not write it: no such codec")

    monkeypatch.setattr("play.recorder.save_mp4", refuse)
    said = r"the recording could not be written: ffmpeg .*no such codec"
    with contextlib.closing(Recordings()) as recordings, pytest.raises(Problem, match=said):
        recordings.finish(recordings.begin(35))
    assert capfd.readouterr().err == ""


def test_other_web_sites_have_no_business_here(doom, capsys):
    for origin in (
        "http://example.com",
        f"http://{doom.address}.example.com",
        "null",
        "http://[::1",
        "",
        "http://\xe9",
    ):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://{doom.address}/socket", legacy=True, origin=origin)
    with Page(doom, origin=f"http://{doom.address}") as page:
        assert page.hello["type"] == "hello"
    status, _, body = get(doom, "/", Host="Evil.example:8000")  # a name that was pointed here
    assert status == 400 and b"start the player with --allow-host evil.example" in body
    said = capsys.readouterr().out
    assert f"refused: a page of http://example.com asked for {doom.address}; if that is yours" in said
    assert "refused: evil.example is not a name of this machine; if that is yours" in said


HEADERS = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
]


def knock(server, *headers):
    """A WebSocket that is asked for by hand: the connection, and what it is answered."""
    host, port = server.address.split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    lines = ["GET /socket HTTP/1.1", f"Host: {server.address}", *HEADERS, *headers]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    return connection, connection.recv(100).decode().split("\r\n")[0]


def test_what_no_browser_sends_is_refused_too_and_answered(doom, capfd):
    own = f"Origin: http://{doom.address}"
    for headers in ([own, own], [own, "Origin: http://evil"], ["Origin: http://" + "a" * 10_000], [own, "X: \x1b[1m"]):
        connection, answer = knock(doom, *headers)
        assert "403" in answer, headers
        connection.close()
    connection, answer = knock(doom, own, *(f"X-{i}: 1" for i in range(99)))
    assert "101" in answer
    connection.sendall(bytes([0x81, 0x82, 0, 0, 0, 0, 0xFF, 0xFE]))  # text that is no UTF-8
    wait(lambda: not doom.site.sessions)
    connection.close()
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said and "\x1b" not in said


def test_a_page_that_cannot_connect_learns_why(doom, capsys):
    for origin, status, why in (
        ("https://play.example.org", 403, "--allow-host play.example.org"),
        (f"http://{doom.address}", 204, ""),
    ):
        with contextlib.closing(http.client.HTTPConnection(doom.address, timeout=30)) as connection:
            connection.request("POST", "/socket", headers={"Origin": origin})
            answer = connection.getresponse()
            assert answer.status == status and why in answer.read().decode()
    assert "a page came without its WebSocket: a proxy must pass the headers" in capsys.readouterr().out


PAGE, NAME = "page", "is not a name"


@pytest.mark.parametrize(
    ("host", "origin", "reason"),
    [
        ("localhost:8000", "http://localhost:8000", None),
        ("LocalHost.:8000", "http://localhost:8000", None),
        ("127.0.0.1", "http://127.0.0.1:80", None),
        ("[::1]:8000", "http://[0:0::1]:8000", None),
        ("192.168.0.7:8000", "http://192.168.0.7:8000", None),
        ("localhost:8000", "http://127.0.0.1:8000", PAGE),
        ("localhost:8000", "http://localhost:8001", PAGE),
        ("localhost:8000", "http://localhost", PAGE),
        # A proxy that ends TLS, or writes the usual port out; a name that points here has neither.
        ("play.example.org", "https://play.example.org", None),
        ("play.example.org:443", "https://play.example.org", None),
        ("play.example.org:80", "http://play.example.org", None),
        ("play.example.org", "https://evil.example", PAGE),
        ("play.example.org:80", "https://play.example.org", PAGE),
        ("evil.example", "http://evil.example", NAME),
        ("evil.example:8000", "http://evil.example:8000", NAME),
        # A proxy that asks for the player by another name.
        ("127.0.0.1:8000", "https://play.example.org", PAGE),
        ("127.0.0.1:8000", "https://known.example", None),
        ("player:8000", "http://known.example:8080", None),
        ("known.example:8000", "http://known.example:8000", None),
        ("known.example:8000", "http://evil.example", PAGE),
        *((host, None, None) for host in ("localhost", "KNOWN.example.:1", "10.0.0.1:8000", "[fe80::1]:8000")),
        *((host, None, NAME) for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "1.2.3")),
        *(
            (host, None, NAME)
            for host in ("", ".", ":8000", "localhost:", "localhost:x", "localhost:65536", "[::1", "::1")
        ),
        *((host, None, NAME) for host in ("a@localhost", "localhost/", "localhost, localhost", "loc\x1balhost", "½")),
        *(
            ("localhost", origin, PAGE)
            for origin in ("", "null", "localhost", "http:", "http://", "http://[::1", "http://localhost:x", "file://")
        ),
        *(
            ("localhost", origin, PAGE)
            for origin in ("http://localhost/", "http://a@localhost", "http://localhost, http://localhost", "http://½")
        ),
    ],
)
def test_who_is_served(host, origin, reason):
    refusal = Hosts("127.0.0.1", ["Known.example"]).refusal(host, origin)
    if reason is None:
        assert refusal is None
    else:
        assert reason in refusal and refusal.isprintable() and refusal == one_line(refusal)


def test_a_server_for_all_is_known_by_the_names_of_this_machine(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Mine.lan")
    monkeypatch.setattr("socket.getfqdn", lambda: "mine.example.org")
    hosts = Hosts("0.0.0.0")
    for name in ("mine.lan", "MINE.example.org", "mine.local:8000", "localhost", "0.0.0.0", "10.0.0.2:8000"):
        assert hosts.refusal(name, None) is None
    assert NAME in hosts.refusal("mine.evil.example", None) and NAME in Hosts("::1").refusal("mine.lan", None)
    assert is_local("::1") and is_local("LOCALHOST") and not is_local("192.168.0.1") and not is_local("mine.lan")


def test_names_to_allow_are_checked():
    assert Hosts("::", ["::1", "[fe80::1]", "10.0.0.1", "A.example."]).allowed == {
        "::1",
        "fe80::1",
        "10.0.0.1",
        "a.example",
    }
    for text in ("", "*", "https://play.example.org", "play.example.org:443", "a b", "-x", "\x1b[1m"):
        with pytest.raises(UsageProblem, match="expected a host's name alone") as mistake:
            Hosts("::", [text])
        assert str(mistake.value).isprintable()


def test_the_terminal_is_not_flooded(capsys, monkeypatch):
    terminal = Terminal()
    for i in range(2 * TOLD):
        terminal.tell("the same")
        terminal.tell(f"number {i}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["play: the same", "play: number 0"] and lines[-1] == "play: no more of this is told"
    assert len(lines) == len(set(lines)) == TOLD + 1
    with open(os.devnull) as unwritable:
        monkeypatch.setattr("sys.stdout", unwritable)
        Terminal().tell("nobody hears it")


def test_texts_from_elsewhere_are_shown_in_one_line():
    assert one_line("run\x1b[31m\n of\tGödel  \udcff\u202e\n") == "run\\x1b[31m of\\tGödel  \\udcff\\u202e"
    assert one_line("a" * 1000, 7) == "aaaaaaa..." and len(one_line("a" * 1000)) == 1000


@pytest.fixture
def hasty(monkeypatch):
    """A server that waits 1.5 seconds for an answer, and whose network takes little that is not read."""

    def listen(host, port):
        listening = listen_on(host, port)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return listening

    monkeypatch.setattr("tests.player.listen_on", listen)
    monkeypatch.setattr("play.server.ANSWER", 1.5)
    monkeypatch.setattr("play.server.PING", 0.5)
    with serving(models("doom")) as server:
        yield server


def text(message):
    """A message of a page as it is on the wire; shorter than 126 bytes."""
    content = json.dumps(message).encode()
    return bytes([0x81, 0x80 | len(content), 0, 0, 0, 0]) + content


@pytest.mark.parametrize("seen", [lambda count: 2**53 - 1, lambda count: count], ids=["all", "guessed"])
def test_who_reads_nothing_loses_the_place_whatever_it_says(hasty, seen):
    connection, _ = knock(hasty)
    connection.sendall(text({"type": "pause", "on": False}))
    wait(lambda: hasty.site.sessions)
    count, end = 0, time.monotonic() + 30
    while hasty.site.sessions and time.monotonic() < end:
        count += 1
        with contextlib.suppress(OSError):
            connection.sendall(text({"type": "input", "seen": seen(count), "action": [0]}))
        time.sleep(0.04)  # guesses that run ahead of what is sent would not be believed
    assert not hasty.site.sessions
    connection.close()


def test_what_was_never_sent_was_never_seen():
    flow = Flow(None, asyncio.Event(), None)
    flow.sent = 3
    for number, seen in ((4, 0), (2**53 - 1, 0), (2, 2), (1, 2), (3, 3)):
        flow.saw(number)
        assert flow.seen == seen


def test_who_says_nothing_loses_the_place_and_is_told(hasty):
    page, told = connect(f"ws://{hasty.address}/socket", legacy=True), ""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            message = page.recv(timeout=30)
            told = message if isinstance(message, str) else told
    assert closed.value.rcvd.code == 1008 and "nothing was heard of this page" in json.loads(told)["message"]
    wait(lambda: not hasty.site.sessions)


def test_who_is_slow_or_only_looks_keeps_the_place(hasty):
    with Page(hasty) as page:
        page.say("pause", on=False)
        for _ in range(4):
            time.sleep(0.5)  # too long in all, never between two answers
            page.frame()
        page.say("pause", on=True)
        page.hear("state", lambda state: state["paused"])
        with pytest.raises(TimeoutError):
            while True:  # what is still under way
                page.take(patience=0.3)
        time.sleep(3)
        page.say("pause", on=False)
        step = page.frame()[0]["step"]
        assert page.frame(lambda about: about["step"] > step)


@pytest.mark.parametrize(
    ("method", "kind", "message"),
    [
        ("step", RuntimeError, None),
        ("step", SystemExit, None),
        ("begin", ValueError, {"kind": "restart", "seed": 1}),
        ("close", RuntimeError, {"kind": "world", "name": "real"}),
    ],
)
def test_a_world_that_fails_gives_its_place_back_and_says_why(doom, monkeypatch, capfd, method, kind, message):
    with Page(doom) as page:
        page.drive(1, 3)

        def fail(*_):
            raise kind(f"the {method}\n died")

        (session,) = doom.site.sessions
        monkeypatch.setattr(session.scene, method, fail)
        if message:
            page.say(**message)
        assert page.closed() == 1011
    reason = f"the session has ended: something went wrong: {kind.__name__}: the {method} died"
    assert page.news[-1] == {"type": "error", "message": reason, "closed": True}
    wait(lambda: not doom.site.sessions)
    assert not session.is_alive()
    said = "".join(capfd.readouterr())
    assert said.count(reason.removeprefix("the ")) == 1 and "Traceback" not in said


def test_a_run_without_m_can_still_be_looked_at(doom, tmp_path):
    run = doom_run(tmp_path)
    run.rnn_weights.unlink()
    without = load_models(run)
    assert set(without.missing) == {"dream", "controller"} and "rnn.weights.h5" in without.missing["dream"]
    session = Session(without, doom.site.recordings, lambda: None)
    assert session.wishes.world == "real"
    session.hear({"type": "controller", "on": True})
    assert not session.wishes.controller


def test_a_server_for_all_says_where_others_reach_it(monkeypatch, capsys):
    server = types.SimpleNamespace(run=lambda sockets: None)
    monkeypatch.setattr("play.__main__.load_models", lambda run: models("doom"))
    monkeypatch.setattr("play.server.make_server", lambda site: server)
    serve("doom", "0.0.0.0", 0, sessions=1)
    said = capsys.readouterr().out
    assert f"open http://{reachable_at('0.0.0.0')}:" in said and "0.0.0.0" not in said
    assert "on this machine http://localhost:" in said
    assert reachable_at("127.0.0.1") == "127.0.0.1" and reachable_at("::1") == "::1"

    def unreachable(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", unreachable)
    assert reachable_at("0.0.0.0") == reachable_at("::") == socket.gethostname()


def test_mistakes_in_the_command_are_one_line_and_told_before_tensorflow_is_imported(tmp_path):
    shutil.copy(PRETRAINED / "doom" / "config.yaml", tmp_path)
    code = "import sys; sys.modules['tensorflow'] = None; from play.__main__ import guard, main; sys.exit(guard(main))"
    for arguments, exit_code, reason in (
        (["no\x1bthing"], 2, "no\\x1bthing is neither shipped ("),
        (["--sessions", "0"], 2, "--sessions 0: "),
        ([str(tmp_path)], 1, f"{tmp_path}/vae.weights.h5 is missing: "),
    ):
        done = python("-c", code, "--port", "0", *arguments)
        assert (done.returncode, done.stdout) == (exit_code, "")
        assert done.stderr.startswith(f"error: {reason}") and done.stderr.count("\n") == 1
    with listen_on("127.0.0.1", 0) as first, pytest.raises(Problem, match="choose another with --host or --port"):
        listen_on("127.0.0.1", first.getsockname()[1])
    for port in (-1, 70000):
        with pytest.raises(UsageProblem, match=f"--port {port}"):
            listen_on("127.0.0.1", port)
    for host in ("203.0.113.1", "a..b", "a" * 70):
        with pytest.raises(Problem, match=r"^cannot listen on .* with --host or --port$"):
            listen_on(host, 0)
