"""
The RADOS gateway of Ceph over one monitor and one OSD in memory, all without root and systemd.

Needs the programs of Debian's packages `radosgw`, `ceph-mon` and `ceph-osd`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

from tests.leashed import Leashed, ServerNotStartedError, run, wait_until
from tests.serving import free_port

__all__ = ["Ceph"]

_PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_MEMORY_BYTES = 2 * 1024**3
# Without it a program asks the monitor for its settings and forgets the fsid. What it asks for before it is
# told once more is refused ("wrong fsid"): it ends, or waits for what has ended.
_ENVIRONMENT = {"CEPH_ARGS": "--no-mon-config"}

_CONF = """
[global]
fsid = {fsid}
monmap = {directory}/monmap
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_bind_msgr2 = false
run_dir = {directory}
admin_socket = {directory}/$name.sock
pid_file = {directory}/$name.pid
log_file = {directory}/$name.log
crash_dir = {directory}/crash
mon_data = {directory}/mon
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = {memory}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
rgw_data = {directory}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_enable_usage_log = false
rgw_enable_ops_log = false
"""


class Ceph:
    """
    A cluster for one test session; what it keeps is lost when the OSD ends.

    The gateway alone may be killed and started again.
    """

    health = "/swift/healthcheck"

    def __init__(self, directory: Path, port: int, keys: tuple[str, str]) -> None:
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        if missing:
            raise ServerNotStartedError(f"missing {', '.join(missing)}: install radosgw, ceph-mon, ceph-osd")
        self._directory = directory
        self._keys = keys
        self._mon_port = free_port()
        self._fsid = str(uuid4())
        self._conf = directory / "ceph.conf"
        self._conf.write_text(
            _CONF.format(
                fsid=self._fsid,
                directory=directory,
                memory=_MEMORY_BYTES,
                port=port,
            )
        )
        for folder in ("mon", "osd", "rgw", "crash"):
            (directory / folder).mkdir()
        self._mon = self._server("ceph-mon", "-i", "a")
        self._osd = self._server("ceph-osd", "-i", "0")
        self._gateway = self._server("radosgw", "-n", "client.rgw")

    def start(self) -> Leashed:
        self._start_mon()
        self._start_osd()
        self._gateway.start()
        access, secret = self._keys
        user = ["user", "create", "--uid=tests", "--display-name=tests"]
        self._run("radosgw-admin", *user, f"--access-key={access}", f"--secret-key={secret}")
        return self._gateway

    def stop(self) -> None:
        # Nothing is to be kept, and asking takes seconds.
        for server in (self._gateway, self._osd, self._mon):
            if server.running():
                server.kill()

    def _start_mon(self) -> None:
        monmap = str(self._directory / "monmap")
        address = f"[v1:127.0.0.1:{self._mon_port}]"
        run(["monmaptool", "--create", "--clobber", "--fsid", self._fsid, "--addv", "a", address, monmap])
        self._run("ceph-mon", "--mkfs", "-i", "a")
        self._mon.start()
        wait_until(lambda: self._asks("ceph", "mon", "stat"), self._mon)

    def _start_osd(self) -> None:
        uuid = str(uuid4())
        # `ceph` itself may still be refused; what it did already it does not do again.
        wait_until(lambda: self._asks("ceph", "osd", "new", uuid), self._mon)
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", uuid)
        self._osd.start()

    def _server(self, program: str, *arguments: str) -> Leashed:
        log = self._directory / f"{program}-output.log"
        return Leashed([program, "-f", "-c", str(self._conf), *arguments], log, _ENVIRONMENT)

    def _run(self, program: str, *arguments: str) -> str:
        environment = {**os.environ, **_ENVIRONMENT}
        return run([program, "-c", str(self._conf), *arguments], timeout=120, env=environment)

    def _asks(self, program: str, *arguments: str) -> bool:
        try:
            self._run(program, "--connect-timeout", "2", *arguments)
        except ServerNotStartedError:
            return False
        return True
