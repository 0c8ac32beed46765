"""The tables of `sim.results.schema` as pandas frames. Apart from the schema because pandas takes long to import."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.results.schema import TABLES, nullable

INTEGERS = {pa.int64(): "Int64", pa.int32(): "Int32"}


def typed(name: str, columns: dict[str, Any] | pd.DataFrame) -> pd.DataFrame:
    """A frame of the table *name*: its columns in their order, each of its type. A missing column raises KeyError."""
    return pd.DataFrame({field.name: _typed(field, columns[field.name]) for field in TABLES[name]})


def _typed(field: pa.Field, column: Any) -> Any:
    if pa.types.is_dictionary(field.type):
        return column if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype) else pd.Categorical(column)
    if nullable(field):
        return pd.array(column, dtype=INTEGERS[field.type])
    return np.asarray(column, dtype=field.type.to_pandas_dtype())


def to_frame(name: str, rows: pa.Table) -> pd.DataFrame:
    """A table as read from its file, as a frame."""
    frame = rows.to_pandas(types_mapper={kind: pd.Int64Dtype() for kind in INTEGERS}.get)
    wanted = {
        field.name: INTEGERS[field.type] if nullable(field) else field.type.to_pandas_dtype()
        for field in TABLES[name]
        if pa.types.is_integer(field.type)
    }
    return frame.astype({column: kind for column, kind in wanted.items() if frame[column].dtype != kind})


def columns_of(frame: pd.DataFrame) -> dict[str, Any]:
    """The columns of a frame as `RunWriter.append` takes them."""
    return {
        str(name): column.to_numpy() if isinstance(column.dtype, np.dtype) else pa.array(column.array)
        for name, column in frame.items()
    }
