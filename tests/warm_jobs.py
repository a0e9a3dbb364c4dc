"""The workflow's jobs in forks of a process that has imported the libraries, as tests/warm_python.py does for commands.

A job's command is `python -m invp STEP ...`. In a test the first `python` of its PATH is a small script that asks the server below to fork,
passes signals on, and ends as the fork does. The fork starts in the job's folder with its environment and files, and imports the project
from there. Studies that are to be run just as a user does, and those in which processes are killed, do without.

Run as a script it is the server: `python tests/warm_jobs.py SOCKET`; it ends with the process that started it.
"""

import atexit
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

VARIABLE = "INVP_WARM_JOBS"
CLIENT = """#!{python} -SEs
import os, sys
given = sys.argv[1:]
path = os.environ.get("{variable}")
if not path or given[:2] != ["-m", "invp"]:
    os.execv("{python}", ["{python}", *given])
import json, signal, socket, struct
server = socket.socket(socket.AF_UNIX)
server.connect(path)
message = json.dumps([given[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [struct.pack("<I", len(message))], [0, 1, 2])
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, lambda received, frame: server.send(bytes([received])))
server.sendall(message)
status = struct.unpack("<i", server.recv(4, socket.MSG_WAITALL))[0]
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
sys.exit(os.WEXITSTATUS(status))
"""


# For commands that a page has: `snakemake` as it is, but that its jobs find the script above first.
SNAKEMAKE = """#!{python}
import sys
sys.executable = "{script}"
from snakemake.cli import main
main()
"""


@cache
def environment() -> dict[str, str]:
    """Variables of a workflow whose jobs are to be forks: the script that stands for `python`, and the socket of the server.

    Started the first time, the server serves all workflows of this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    atexit.register(shutil.rmtree, folder, True)
    script = folder / "python"
    script.write_text(CLIENT.format(python=sys.executable, variable=VARIABLE))
    script.chmod(0o755)
    path = folder / "socket"
    (folder / "bin").mkdir()
    (folder / "bin" / "snakemake").write_text(SNAKEMAKE.format(python=sys.executable, script=script))
    (folder / "bin" / "snakemake").chmod(0o755)
    command = [sys.executable, __file__, str(path)]
    server = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    server.stdout.readline()  # it listens
    return {"INVP_JOBS_PYTHON": str(script), VARIABLE: str(path)}


def shell_environment() -> dict[str, str]:
    """The variables with which a shell's `snakemake` is a workflow whose jobs are forks."""
    warm = environment()
    folders = (Path(warm["INVP_JOBS_PYTHON"]).parent / "bin", Path(sys.executable).parent)
    return {**warm, "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}


def _serve(path: str) -> None:
    import importlib

    from warm_python import LIBRARIES

    for name in LIBRARIES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for a job
    print("ready", flush=True)
    while True:
        ready = select.select([listener, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return  # whoever started this has ended
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            _watch(connection)
        connection.close()


def _watch(connection: socket.socket) -> None:
    """Forks a job, passes signals to it, and says how it ended; a client that was killed takes its job along."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, files, _, _ = socket.recv_fds(connection, 4, 3)
    arguments, folder, environment = json.loads(connection.recv(struct.unpack("<I", header)[0], socket.MSG_WAITALL))
    job = os.fork()
    if job == 0:
        connection.close()
        _run(arguments, folder, environment, files)
    watched = os.pidfd_open(job)
    while watched not in select.select([watched, connection], [], [])[0]:
        for number in connection.recv(64) or [signal.SIGKILL]:
            os.kill(job, number)
            if number == signal.SIGKILL:
                os._exit(1)
    connection.send(struct.pack("<i", os.waitpid(job, 0)[1]))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> None:
    from warm_python import become

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)
    status = 1
    try:
        become(arguments, folder, environment)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1])
