"""A site's supervisor for tests to kill: starts instances, prints their init's host pids, then restarts one for ever.

Arguments: the hypervisor's folder, the root, how many instances, and `churn` to start and stop one all the time.
"""

import sys
from ipaddress import IPv4Address
from pathlib import Path

import anyio

from cernvm.site.bridge import BridgeNetwork
from cernvm.site.hypervisor.container import ContainerHypervisor
from cernvm.site.hypervisor.port import MachineSpec
from system.site_hypervisor.roots import bash


async def main(folder, root, count, churn):
    network = BridgeNetwork()

    def spec(number):
        return MachineSpec(
            f"i-{number:08x}",
            "worker",
            IPv4Address(f"10.77.0.{number + 1}"),
            root,
            init=bash("sleep 1000 & sleep 1000 & wait"),
        )

    async with ContainerHypervisor(folder, network) as hypervisor:
        for number in range(1, count + 1):
            await hypervisor.start(spec(number))
        print("ready", flush=True)
        while churn:
            await hypervisor.start(spec(count + 1))
            await hypervisor.stop(f"i-{count + 1:08x}", grace_s=0)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "churn" in sys.argv)
