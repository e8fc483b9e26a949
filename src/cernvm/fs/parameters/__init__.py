"""The original's configuration: `/etc/cvmfs`, read as text and never run, becomes the settings of a mount.

Values: `Parameters`, `Setting`, `Origin`, `Warned` (`values.py`), `Known` (`known.py`, every parameter there is). Flow:
`read_parameters` (`reading.py`) finds the files in the original's order, `words.py` and `grammar.py` parse them,
`evaluate.py` carries them out; a configuration repository is read like a folder (`documents.py`, `repository.py`).
`settings_of` (`mapping.py`) turns the outcome into `MountSettings`; `configured_settings` (`configured.py`) does all of
it for one name.

Source: docs/formats/parameters.md, docs/reference/parameters.md
"""

from cernvm.fs.parameters.configured import (
    configured_names,
    configured_parameters,
    configured_settings,
)
from cernvm.fs.parameters.known import Known, Use, known_parameters
from cernvm.fs.parameters.mapping import default_point, settings_of
from cernvm.fs.parameters.reading import MOUNT_DIR, ROOT, read_parameters
from cernvm.fs.parameters.values import Origin, Parameters, Setting, Warned

__all__ = [
    "MOUNT_DIR",
    "ROOT",
    "Known",
    "Origin",
    "Parameters",
    "Setting",
    "Use",
    "Warned",
    "configured_names",
    "configured_parameters",
    "configured_settings",
    "default_point",
    "known_parameters",
    "read_parameters",
    "settings_of",
]
