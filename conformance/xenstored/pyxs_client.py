"""Everything that pyxs 0.4.2 can do, against the xenstored whose socket XENSTORED_PATH names. Prints what it got."""

import os
import sys

import pyxs

with pyxs.Client(unix_socket_path=os.environ["XENSTORED_PATH"]) as client:
    client[b"/py/a"] = b"one"
    client.write(b"/py/b/c", b"two")
    client.mkdir(b"/py/d")
    print(client[b"/py/a"], client.read(b"/py/b/c"), client.list(b"/py"))
    print(client.exists(b"/py/d"), client.exists(b"/py/none"), client.read(b"/py/none", b"default"))
    client.set_perms(b"/py/a", [b"b0", b"r0"])
    print(client.get_perms(b"/py/a"))
    client.delete(b"/py/d")
    print([path for path, _value, _children in client.walk(b"/py")])
    print(client.get_domain_path(0), client.is_domain_introduced(0), client.is_domain_introduced(77))
    try:
        client.read(b"/py/none")
    except pyxs.PyXSError as error:
        print(type(error).__name__, error.args[0])
    try:
        client.read(b"/py//a")
    except pyxs.PyXSError as error:
        print(type(error).__name__)

    client.transaction()
    client.write(b"/py/a", b"in a transaction")
    client.commit()
    print(client[b"/py/a"])
    client.transaction()
    client.write(b"/py/a", b"never")
    client.rollback()
    print(client[b"/py/a"])
    client.transaction()
    client.write(b"/py/a", b"loses")
    with pyxs.Client(unix_socket_path=os.environ["XENSTORED_PATH"]) as other:
        other.write(b"/py/a", b"wins")
    print(client.commit(), client[b"/py/a"])

with pyxs.Client(unix_socket_path=os.environ["XENSTORED_PATH"]) as client:
    with client.monitor() as monitor:
        monitor.watch(b"/py/w", b"token")
        events = monitor.wait()
        print(next(events))
        client.write(b"/py/w/x", b"1")
        print(next(events))
        monitor.unwatch(b"/py/w", b"token")
sys.stdout.flush()
