"""A Python that has imported what takes seconds to import, and runs code in forks of itself.

The fixture `start_python` starts it: modules to import as arguments, a request a line on stdin, and the exit status of
each on stdout. A fork ends as an interpreter does, with whatever the code left to do at exit.
"""

import importlib
import json
import os
import sys


def next_request():
    """None at the end of the input. Returns in a fork for each request."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    return None


def redirect(number, path, flags):
    opened = os.open(path, flags)
    os.dup2(opened, number)
    os.close(opened)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    request = next_request()
    if request is not None:
        redirect(0, os.devnull, os.O_RDONLY)
        redirect(1, request["stdout"], os.O_WRONLY | os.O_CREAT)
        redirect(2, request["stderr"], os.O_WRONLY | os.O_CREAT)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        sys.argv = ["-c", *request["args"]]
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
