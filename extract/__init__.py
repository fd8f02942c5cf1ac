"""Recorded rollouts: the policies that play, parallel collection, and the files they are kept in."""
