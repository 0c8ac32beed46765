"""The page for eyes (`board/`): its files, a sample login, and where its broadcaster is."""

from __future__ import annotations

ROUTES: tuple = ()
