"""A private, throw-away SLURM cluster on this one machine: controller, accounting, and virtual nodes with pretend GPUs.

    python tests/slurm/cluster.py start FOLDER      then: . FOLDER/env.sh
    python tests/slurm/cluster.py stop FOLDER

Needs root and Debian's packages munge, slurmctld, slurmd, slurm-client, slurmdbd, mariadb-server; no systemd. All state lies in
FOLDER, a short absolute path that others cannot write to. There are no cgroups: SLURM enforces limits of time, and of memory by
looking every two seconds; cores and devices it only hands out.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sacct", "slurmdbd", "mariadbd", "mariadb-install-db")
os.environ["PATH"] += ":/usr/sbin:/sbin"

SLURM_CONF = """\
ClusterName=invptest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Short times, so that tests are quick.
SlurmdTimeout=10
ReturnToService=2
MinJobAge=7200
DefMemPerCPU=100
# A job that no node could ever start is refused at once.
EnforcePartLimits=ALL
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=ALL MaxTime=1-00:00:00 State=UP
PartitionName=urgent Nodes=ALL MaxTime=1-00:00:00 State=UP PriorityTier=10
"""
NODE = (
    "NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN"
)
DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def free_ports(number: int) -> int:
    """The first of `number` consecutive ports on which nobody listens."""
    for first in range(27817, 32000, 16):
        sockets = [socket.socket() for _ in range(number)]
        try:
            for i, listener in enumerate(sockets):
                listener.bind(("127.0.0.1", first + i))
            return first
        except OSError:
            continue
        finally:
            for listener in sockets:
                listener.close()
    raise RuntimeError("no free ports between 27817 and 32000")


class Cluster:
    """The cluster whose state lies in `folder`."""

    def __init__(self, folder: Path, *, nodes: int = 2, gpus: int = 2, cpus: int = 8) -> None:
        self.folder, self.gpus, self.cpus = Path(folder), gpus, cpus
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        # The plugin inside a job drops every SLURM_* variable before it starts: these commands set the configuration.
        path = f"{self.folder}/bin:{os.environ['PATH'].replace(f'{self.folder}/bin:', '')}"
        self.environment = {**os.environ, "SLURM_CONF": f"{self.folder}/etc/slurm.conf", "PATH": path}

    def start(self) -> None:
        """Starts what does not run yet, and waits until every node is idle."""
        for name in ("etc", "state", "spool", "dev", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o755)
        self._configure()
        self._start_munge()
        self._start_accounting()
        self._daemon("slurmctld", ["slurmctld"])
        self._wait("slurmctld", ["scontrol", "ping"], "is UP")
        for node in self.nodes:
            self.start_node(node)
        self._wait("nodes", ["sinfo", "-h", "-p", "cpu", "-t", "idle,mixed,allocated", "-o", "%D"], str(len(self.nodes)))

    def start_node(self, node: str) -> None:
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._daemon(f"slurmd.{node}", ["slurmd", "-N", node])

    def crash_node(self, node: str) -> None:
        """Kills a node's daemon and all that runs under its jobs, as when the machine loses its power."""
        daemon = self.pid(f"slurmd.{node}")
        steps = [p for p in self._stepds() if f"/spool/{node}/" in self._open_files(p)]
        if daemon:
            os.kill(daemon, signal.SIGKILL)
        for step in steps:
            for process in [*_descendants(step), step]:
                _kill(process, signal.SIGKILL)

    def stop(self) -> None:
        """Ends the jobs and every process of this cluster, each by its pid."""
        if self.pid("slurmctld"):
            self.call("scancel", "--user=root", check=False)
            deadline = time.monotonic() + 30
            while self.call("squeue", "-h", check=False).strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        names = [f"slurmd.{n}" for n in self.nodes] + ["slurmctld", "slurmdbd", "mariadbd", "munged"]
        for pid in [*filter(None, map(self.pid, names[: len(self.nodes)])), *self._stepds()]:
            _end(pid)
        for name in names:
            if pid := self.pid(name):
                _end(pid)

    def call(self, *command: str, check: bool = True) -> str:
        """The output of a SLURM command."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def pid(self, name: str) -> int | None:
        """The process of a daemon of this cluster, if it lives."""
        file = self.folder / f"{name}.pid"
        try:
            pid = int(file.read_text().split()[0])
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        except (OSError, ValueError, IndexError):
            return None
        return pid if program.startswith(name.split(".")[0]) else None

    def _configure(self) -> None:
        etc = self.folder / "etc"
        if any(self.pid(name) for name in ("slurmctld", *(f"slurmd.{n}" for n in self.nodes))):
            return  # what runs has read its configuration
        port = free_ports(2 + len(self.nodes))
        values = {"folder": self.folder, "host": socket.gethostname(), "port": port, "dbd_port": port + 1}
        nodes = [NODE.format(name=n, port=port + 2 + i, cpus=self.cpus, gpus=self.gpus) for i, n in enumerate(self.nodes)]
        (etc / "slurm.conf").write_text(SLURM_CONF.format(**values, nodes="\n".join(nodes)))
        (etc / "slurmdbd.conf").write_text(DBD_CONF.format(**values))
        os.chmod(etc / "slurmdbd.conf", 0o600)
        (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        for number in range(self.gpus):  # SLURM wants character devices: copies of /dev/null
            device = self.folder / "dev" / f"gpu{number}"
            if not device.exists():
                os.mknod(device, 0o20666, os.makedev(1, 3))
        lines = f"AutoDetect=off\nName=gpu Flags=nvidia_gpu_env File={self.folder}/dev/gpu[0-{self.gpus - 1}]\n"
        (etc / "gres.conf").write_text(lines)
        for name in ("srun", "scontrol", "squeue"):
            real = shutil.which(name, path=os.environ["PATH"].replace(f"{self.folder}/bin:", ""))
            wrapper = self.folder / "bin" / name
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={etc}/slurm.conf exec {real} "$@"\n')
            wrapper.chmod(0o755)
        (self.folder / "env.sh").write_text(f"export SLURM_CONF={etc}/slurm.conf PATH={self.folder}/bin:$PATH:/usr/sbin\n")

    def _start_munge(self) -> None:
        if self.pid("munged"):
            return
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = {
            "key-file": key,
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munge.seed",
        }
        options = [f"--{name}={self.folder / value}" for name, value in files.items()]
        subprocess.run(["munged", *options], check=True, capture_output=True)

    def _start_accounting(self) -> None:
        data, sock = self.folder / "mysql", self.folder / "mysql.sock"
        if not self.pid("mariadbd"):
            if not data.exists():
                subprocess.run(
                    ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
                     "--auth-root-authentication-method=socket", "--auth-root-socket-user=root"],
                    check=True, capture_output=True,
                )  # fmt: skip
            with open(self.folder / "mariadbd.log", "a") as log:
                subprocess.Popen(
                    ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={sock}", "--skip-networking",
                     f"--pid-file={self.folder}/mariadbd.pid", "--innodb-buffer-pool-size=32M", "--innodb-lock-wait-timeout=900",
                     "--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            self._wait("mariadbd", ["mariadb-admin", "--no-defaults", f"--socket={sock}", "ping"], "alive")
        self._daemon("slurmdbd", ["slurmdbd"], MYSQL_UNIX_PORT=str(sock))
        self._wait("slurmdbd", ["sacctmgr", "-n", "show", "cluster"], "")
        if "invptest" not in self.call("sacctmgr", "-nP", "show", "cluster", "format=cluster"):
            self.call("sacctmgr", "-i", "add", "cluster", "invptest")
            self.call("sacctmgr", "-i", "add", "account", "lab", "cluster=invptest", "description=lab", "organization=lab")
            self.call("sacctmgr", "-i", "add", "user", "root", "account=lab", "cluster=invptest", "defaultaccount=lab")

    def _daemon(self, name: str, command: list[str], **extra: str) -> None:
        if self.pid(name):
            return
        with open(self.folder / f"{name}.out", "a") as log:
            subprocess.run(command, env={**self.environment, **extra}, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait(self, what: str, command: list[str], words: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while True:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            if done.returncode == 0 and words in done.stdout:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what} does not answer; see the logs in {self.folder}: {done.stdout}{done.stderr}")
            time.sleep(0.1)

    def _stepds(self) -> list[int]:
        """The processes that watch over this cluster's jobs: they listen on sockets below its spool folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.path.basename(os.readlink(entry / "exe")).startswith("slurmstepd"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return [pid for pid in found if f"{self.folder}/" in self._open_files(pid)]

    def _open_files(self, pid: int) -> str:
        """The command line and the open files of a process; of sockets, the names."""
        sockets = {}
        for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
            words = line.split()
            if len(words) == 8:
                sockets[f"socket:[{words[6]}]"] = words[7]
        try:
            found = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")]
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    name = os.readlink(descriptor)
                except FileNotFoundError:  # closed meanwhile
                    continue
                found.append(sockets.get(name, name))
        except OSError:
            return ""
        return "\n".join(found)


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:
        return []
    return [d for child in children for d in [*_descendants(child), child]]


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _end(pid: int) -> None:
    """Ends a process: asked first, killed after ten seconds."""
    _kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return
        time.sleep(0.1)
    _kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit("usage: python tests/slurm/cluster.py start|stop FOLDER")
    if absent := missing():
        sys.exit(f"not installed: {', '.join(absent)}; apt-get install munge slurmctld slurmd slurm-client slurmdbd mariadb-server")
    getattr(Cluster(Path(sys.argv[2]).absolute()), sys.argv[1])()
