"""The one loop that plays: games restart with the next seed, rows leave the batch, nothing is lost or mixed up."""

import itertools

import numpy as np
import pytest

from envs.episodes import Each, Moment, moments, play
from experiment.problem import Problem
from tests.fake import FakeGames, fake_world, first_hit, length

WORLD = fake_world()


class Witness:
    """A player that notes what it is told, and moves by what it sees: left in even steps, right in odd ones."""

    def __init__(self, games: int):
        self.begun: list[tuple[int, int, int]] = []
        self.rows: list[list[int]] = []
        self.seed = np.full(games, -1)
        self.step = np.zeros(games, int)

    def begin(self, games, episodes, seeds):
        self.begun += zip(games.tolist(), episodes.tolist(), seeds.tolist(), strict=True)
        self.seed[games], self.step[games] = seeds, 0

    def act(self, frames, games):
        self.rows.append(games.tolist())
        assert frames.shape == (len(games), 64, 64, 3)
        np.testing.assert_array_equal(frames[:, 0, 0, 0], self.seed[games] % 256)
        np.testing.assert_array_equal(frames[:, 0, 0, 1], self.step[games])
        raw = np.where(self.step[games] % 2, 0.9, -0.9)
        self.step[games] += 1
        return raw


def expected_return(seed: int, first: int = 7) -> float:
    """Of the Witness in the first steps of the episode of a seed: Doom's left is action 1, right is 2."""
    return sum(seed % 10 + (2 if step % 2 else 1) for step in range(min(length(seed), first)))


@pytest.mark.parametrize("games", [1, 2, 5])
def test_every_seed_is_played_to_its_end_as_if_alone(games):
    seeds = [13, 3, 4, 20, 7, 6, 100]
    vector, player, ended = FakeGames(games), Witness(games), []
    played = play(WORLD, vector, player, seeds, ended.append, first=3)
    assert played.lengths.tolist() == [length(seed) for seed in seeds]
    assert played.returns.tolist() == [expected_return(seed) for seed in seeds]
    assert played.early.tolist() == [expected_return(seed, first=3) for seed in seeds] != played.returns.tolist()
    assert played.first_hits.tolist() == [first_hit(seed) for seed in seeds] != played.lengths.tolist()
    assert sum(ended) == len(seeds) and 0 not in ended
    assert vector.seeds == seeds
    assert [(episode, seed) for _, episode, seed in player.begun] == list(enumerate(seeds))


def test_a_game_restarts_at_once_and_its_row_leaves_when_no_seed_is_left():
    seeds = [6, 0, 2, 1]  # 7, 1, 3 and 2 steps
    player = Witness(2)
    play(WORLD, FakeGames(2), player, seeds)
    assert player.begun == [(0, 0, 6), (1, 1, 0), (1, 2, 2), (1, 3, 1)]
    assert player.rows == [[0, 1]] * 6 + [[0]]  # 1 + 3 + 2 steps beside the 7


def test_seeds_may_be_endless_and_none_is_lost():
    seeds, player = itertools.count(10), Witness(3)
    played = moments(WORLD, FakeGames(3), player, seeds)
    seen = list(itertools.islice(played, 200))
    assert all(len(moment.episodes) == 3 for moment in seen)
    assert [(episode, seed) for _, episode, seed in player.begun] == list(enumerate(range(10, 10 + len(player.begun))))
    assert len(player.begun) > 100 and next(seeds) == 10 + len(player.begun)


def test_a_seed_for_each_game_and_not_one_more():
    """The last seeds of an iterator that fits exactly; then a call with fewer seeds than games."""
    vector, player = FakeGames(3), Witness(3)
    assert play(WORLD, vector, player, [1, 2, 3]).lengths.tolist() == [2, 3, 4]
    assert play(WORLD, vector, player, [5, 11]).lengths.tolist() == [6, 5]
    assert player.rows[-1] == [0] and all(2 not in rows for rows in player.rows[4:])
    assert play(WORLD, vector, player, []).lengths.tolist() == []


def test_moments_can_be_kept():
    """What a Moment says when it is given is what it says later; and it tells whether an episode ended or was cut."""
    kept, copies = [], []
    for moment in moments(WORLD, FakeGames(2), Witness(2), iter([4, 5, 6])):
        kept.append(moment)
        copies.append([part.copy() for part in moment])
    for moment, parts in zip(kept, copies, strict=True):
        for part, copy in zip(moment, parts, strict=True):
            np.testing.assert_array_equal(part, copy)
    together = Moment(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))
    assert together.episodes[together.terminated].tolist() == [0, 2]  # seeds 4 and 6
    assert together.episodes[together.truncated].tolist() == [1]
    assert together.raw.dtype == np.float32
    np.testing.assert_allclose(np.abs(together.raw), 0.9)


def scripted(scripts):
    return Each(lambda episode, _: iter(scripts[episode]), 2)


@pytest.mark.parametrize("name", ["doom", "carracing"])
def test_actions_that_are_no_numbers_are_a_problem(name):
    world = fake_world(name)
    scripts = np.zeros((2, 7) if name == "doom" else (2, 7, 3))
    scripts[1, 2:] = np.nan
    with pytest.raises(Problem, match="actions are not numbers"):
        play(world, FakeGames(2, world.actions), scripted(scripts), [6, 13])
    assert play(world, FakeGames(2, world.actions), scripted(scripts), [6, 1]).lengths.tolist() == [7, 2]


@pytest.mark.parametrize(("name", "actions"), [("doom", 1), ("carracing", 3)])
def test_scripts_are_played_step_by_step_in_their_episodes(name, actions):
    world, seeds = fake_world(name), [3, 12, 6, 1, 9]
    scripts = np.random.default_rng(0).uniform(-1, 1, (5, 8, actions)).astype(np.float32)
    scripts = scripts[..., 0] if actions == 1 else scripts
    seen: dict[int, list[np.ndarray]] = {}
    for moment in moments(world, FakeGames(2, actions), scripted(scripts), iter(seeds)):
        for episode, raw in zip(moment.episodes.tolist(), moment.raw, strict=True):
            seen.setdefault(episode, []).append(raw)
    for episode, seed in enumerate(seeds):
        np.testing.assert_array_equal(np.stack(seen[episode]), scripts[episode, : length(seed)])
    returns = play(world, FakeGames(2, actions), scripted(scripts), seeds).returns
    taken = world.to_env(world.execute(scripts))
    first = taken if actions == 1 else taken[..., 0]
    expected = [sum(seed % 10 + first[i, : length(seed)]) for i, seed in enumerate(seeds)]
    np.testing.assert_allclose(returns, expected, rtol=1e-6)
