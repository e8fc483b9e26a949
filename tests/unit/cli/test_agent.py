import os
import signal

import anyio
import anyio.to_thread
import pytest

from cernvm.cli.agent import _until_stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_is_stopped_by_a_signal_where_it_waits(number):
    before = signal.getsignal(number)
    ended = []

    async def serve():
        try:
            await anyio.to_thread.run_sync(os.kill, os.getpid(), number)
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(_until_stopped, serve())

    assert ended
    assert signal.getsignal(number) is before


def test_an_error_of_a_service_stays_that_error():
    async def serve():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        anyio.run(_until_stopped, serve())
