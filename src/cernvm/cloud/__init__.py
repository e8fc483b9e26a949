"""One port, one driver per cloud API.

Values and port are in `port` (`Instance`, `Image`, `RunRequest`, `Cloud`), the twin in `memory`. `region` finds the
file that says where a cloud is and with which credentials; `drivers` gives the driver for it; `ec2` speaks the EC2
Query API, to our own site as to any other.
"""

from cernvm.cloud.drivers import open_cloud
from cernvm.cloud.port import Cloud, Image, Instance, RunRequest
from cernvm.cloud.region import Region, find_region

__all__ = ["Cloud", "Image", "Instance", "Region", "RunRequest", "find_region", "open_cloud"]
