"""A domain's whole life as a script of old drives it, with nothing but Python's own xmlrpc.client.

Arguments: address (a socket's path or an http URL), kernel, name. One line "ok STEP" for each step; an exception ends it.
"""

import http.client
import socket
import sys
import time
import xmlrpc.client


class UnixTransport(xmlrpc.client.Transport):
    """What xm's own xmlrpclib2 did: HTTP/1.1 over a Unix socket."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(self.path)
        return connection


def server(address):
    if address.startswith("http"):
        return xmlrpc.client.ServerProxy(address, allow_none=True)
    return xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=UnixTransport(address), allow_none=True)


def child(sxp, name):
    for item in sxp:
        if isinstance(item, list) and item and item[0] == name:
            return item[1]
    raise KeyError(name)


def wait(what, condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("not within 30 s: " + what)


def faults(code, call, *args):
    try:
        call(*args)
    except xmlrpc.client.Fault as fault:
        assert fault.faultCode == code, fault
        return fault.faultString
    raise AssertionError("no fault")


def config(name, kernel):
    return [
        "vm",
        ["name", name],
        ["memory", "8"],
        ["maxmem", 16],
        ["vcpus", 1],
        ["on_poweroff", "destroy"],
        ["on_reboot", "restart"],
        ["on_crash", "preserve"],
        ["image", ["linux", ["kernel", kernel], ["args", "quiet"]]],
    ]


def main(address, kernel, name):
    xend = server(address).xend
    names = lambda: xend.domains_with_state(False, "all", False)
    state = lambda: child(xend.domain(name), "state")

    def step(what):
        print("ok " + what, flush=True)

    made = xend.domain.create(config(name, kernel))
    domid = child(made, "domid")
    assert made[0] == "domain" and child(made, "name") == name and child(made, "status") == 1
    assert isinstance(child(made, "start_time"), float)
    step("create")
    assert "already exists with ID '%d'" % domid in faults(2, xend.domain.create, config(name, kernel))
    step("no second of that name")
    assert xend.domain.waitForDevices(name) is None
    assert xend.domain.unpause(name) is None
    wait("it runs", lambda: state()[0] == "r" or state()[1] == "b")
    step("unpause")
    assert xend.domain.pause(name) is None and state()[2] == "p"
    assert xend.domain.unpause(domid) is None and state()[2] == "-"
    step("pause, unpause by id")
    assert xend.domain.setName(name, name + "-b") is None
    assert faults(3, xend.domain, name) == name
    assert child(xend.domain(child(made, "uuid")), "name") == name + "-b"
    xend.domain.setName(name + "-b", name)
    step("rename, find by uuid")
    xend.domain.setMemoryTarget(name, 6)
    xend.domain.sched_credit_set(name, 128, 50)
    assert xend.domain.sched_credit_get(name) == {"weight": 128, "cap": 50}
    vcpus = [item for item in xend.domain.getVCPUInfo(name) if item[0] == "vcpu"]
    assert len(vcpus) == 1 and isinstance(child(vcpus[0], "cpu_time"), float)
    step("memory, scheduler, vcpus")
    xend.domain.shutdown(name, "poweroff")
    wait("it is gone", lambda: name not in names())
    assert faults(3, xend.domain.unpause, name) == name
    step("shutdown")
    assert xend.domain.new(config(name, kernel)) is None
    assert child(xend.domain(name), "status") == 0
    step("new")
    assert xend.domain.start(name, False) is None
    wait("it runs", lambda: state()[1] == "b" or state()[0] == "r")
    again = child(xend.domain(name), "domid")
    assert again > domid
    assert faults(2, xend.domain.delete, name) == "Domain is not halted."
    step("start")
    xend.domain.destroy(name)
    wait("it is halted", lambda: child(xend.domain(name), "status") == 0)
    assert xend.domain.delete(name) is None
    assert name not in names()
    step("destroy, delete")


main(*sys.argv[1:])
