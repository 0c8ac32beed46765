"""What several property tests draw."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from hypothesis import strategies as st

from sim.policy import Debounce, Policy


def policies(*without: type, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Policy]:
    """A policy of any kind but *without*: keys that are in *values* from there, others by default.

    Kinds come from the union `Policy`, so a new one takes part in every test that draws from here.
    """
    kinds = [kind for kind in get_args(Policy) if kind not in without]
    keys = {kind: {field.name: values[field.name] for field in fields(kind) if field.name in values} for kind in kinds}
    leading = st.builds(Debounce, wait=values["wait"], leading=st.just(True), trailing=st.booleans(), timing=st.just("lodash"))
    return st.one_of(*(st.builds(kind, **drawn) for kind, drawn in keys.items()), leading)
