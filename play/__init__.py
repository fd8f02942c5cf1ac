"""The browser player: drive in the dream, or in the real game with V's reconstruction beside it."""
