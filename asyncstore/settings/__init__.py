"""The options of asyncstore: what they are, and how they are read.

An option has three spellings. `[state_store] clear_on_success` in `asyncstore.toml` is
`ASYNCSTORE__STATE_STORE__CLEAR_ON_SUCCESS` in the environment and `"state_store.clear_on_success"` as an
argument; the dots of a nested section (`[common.io]`) are single underscores in the environment
(`ASYNCSTORE__COMMON_IO__...`). An argument wins over the environment, which wins over the file.

All three spellings, what is allowed and the texts of the documentation come from the models: a new field is
a new option, a new field of `Settings` is a new section, and a section inside a section is dotted.
"""

from __future__ import annotations

from asyncstore.settings.loading import TracedOption, load_model, load_settings, trace_settings
from asyncstore.settings.models import (
    ConsumerSettings,
    DatabaseSettings,
    Settings,
    StateStoreSettings,
    TriggererSettings,
)
from asyncstore.settings.options import Option, list_options
from asyncstore.settings.showing import mask_password
from asyncstore.settings.workers import CommonIoSettings, CommonSettings, WorkersSettings

__all__ = [
    "CommonIoSettings",
    "CommonSettings",
    "ConsumerSettings",
    "DatabaseSettings",
    "Option",
    "Settings",
    "StateStoreSettings",
    "TracedOption",
    "TriggererSettings",
    "WorkersSettings",
    "list_options",
    "load_model",
    "load_settings",
    "mask_password",
    "trace_settings",
]
