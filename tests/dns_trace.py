"""A trace of every host name that a process and its children look up, native code included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void note(const char *what, const char *name) {
    FILE *log = fopen(getenv("LOOKUPS"), "a");
    if (log) { fprintf(log, "%s %s\n", what, name ? name : ""); fclose(log); }
}
int getaddrinfo(const char *n, const char *s, const struct addrinfo *h, struct addrinfo **r) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    note("getaddrinfo", n);
    return real(n, s, h, r);
}
struct hostent *gethostbyname(const char *n) {
    struct hostent *(*real)(const char *) = dlsym(RTLD_NEXT, "gethostbyname");
    note("gethostbyname", n);
    return real(n);
}
"""
OURS = {"127.0.0.1", "localhost", "0.0.0.0", "::1", "", socket.gethostname()}


def traced(folder: Path) -> dict[str, str]:
    """What to add to a process's environment so that its look-ups are written down in `folder`."""
    source, shim, log = folder / "shim.c", folder / "shim.so", folder / "lookups"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    log.touch()
    return {"LD_PRELOAD": str(shim), "LOOKUPS": str(log)}


def looked_up(folder: Path) -> set[str]:
    """The names, once it is shown that the trace itself works."""
    environ = {**os.environ, "LD_PRELOAD": str(folder / "shim.so"), "LOOKUPS": str(folder / "lookups")}
    subprocess.run([sys.executable, "-c", "import socket; socket.getaddrinfo('localhost', 1)"], env=environ, check=True)
    names = {line.partition(" ")[2] for line in (folder / "lookups").read_text().splitlines()}
    assert "localhost" in names, "the trace itself must work"
    return names
