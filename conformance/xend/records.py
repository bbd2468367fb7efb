"""Every record that the Xen-API has, read by Python's own xmlrpc.client with its built-in types.

Argument: an http URL. One line "ok CLASS RECORDS" for each class; an exception ends it.
"""

import datetime
import sys
import xmlrpc.client

CLASSES = (
    "host host_cpu host_metrics VM VM_metrics VM_guest_metrics VBD VBD_metrics VIF VIF_metrics VDI SR PBD PIF "
    "PIF_metrics network console VTPM DPCI PPCI DSCSI PSCSI crashdump cpu_pool pool task XSPolicy ACMPolicy"
).split()


def main(url):
    server = xmlrpc.client.ServerProxy(url, allow_none=True, use_builtin_types=True)

    def value(method, *args):
        answer = getattr(server, method)(*args)
        assert answer["Status"] == "Success", (method, answer)
        return answer["Value"]

    session = value("session.login_with_password", "root", "")
    for name in CLASSES:
        records = value(name + ".get_all_records", session)
        assert sorted(records) == sorted(value(name + ".get_all", session)), name
        assert all(record["uuid"] == ref for ref, record in records.items()), name
        print("ok %s %d" % (name, len(records)), flush=True)
    (metrics,) = value("host_metrics.get_all_records", session).values()
    age = datetime.datetime.utcnow() - metrics["last_updated"]
    assert abs(age.total_seconds()) < 3600, metrics
    (me,) = [ref for ref in value("session.get_all", session) if ref == session]
    value("session.logout", session)


main(*sys.argv[1:])
