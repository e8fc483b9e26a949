# A worker that generates events: it asks the job manager for jobs and runs them from /cvmfs.
#
# cvm run AMI --template evgen:2 BUS_SERVER=10.77.0.1:5222 BUS_JID=pilot@grid.test BUS_PASSWORD=@FILE JOB_MANAGER=jobs@grid.test
[cernvm]
organisations = evgen
repositories = sft.cernvm.test
users = pilot:pilot:
shell = /bin/bash
environment = EVGEN_WORKER=[[INDEX]],EVGEN_BEAM_ENERGY_GEV=13000
[[IF PROXY]]proxy = [[PROXY]][[ENDIF]]
contextualization_command = pilot:/usr/bin/cvm agent pilot

[pilot]
server = [[BUS_SERVER]]
jid = [[BUS_JID]]
password = [[BUS_PASSWORD]]
manager = [[JOB_MANAGER]]
