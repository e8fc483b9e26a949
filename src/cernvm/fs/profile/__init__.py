"""Recording access profiles: a command runs on a mount made for it, which notes what is read first.

Flow: `record_command` (`recording.py`) serves the repository from its own storage, shows it at /cvmfs in a private
namespace, runs the command there and gives its exit status and `FirstRead`s; `fs/publish` makes a profile of them.
"""

from cernvm.fs.profile.recording import Recorded, record_command

__all__ = ["Recorded", "record_command"]
