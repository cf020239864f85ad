"""Calls with Python's http.client over one connection and prints one line of JSON per answer.

usage: http_client.py URL [--proxy URL] [--tunnel AUTHORITY] [--http10] [--keep-alive]
"""

import argparse
import http.client
import json
import ssl
from urllib.parse import urlsplit

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--proxy")
parser.add_argument("--tunnel")
parser.add_argument("--http10", action="store_true")
parser.add_argument("--keep-alive", action="store_true")
options = parser.parse_args()

if options.http10:
    http.client.HTTPConnection._http_vsn = 10
    http.client.HTTPConnection._http_vsn_str = "HTTP/1.0"

origin = urlsplit(options.url)
hop = urlsplit(options.proxy) if options.proxy else origin
if options.tunnel:
    context = ssl.create_default_context(cafile=options.tunnel)
    connection = http.client.HTTPSConnection(hop.hostname, hop.port, context=context, timeout=30)
    connection.set_tunnel(origin.hostname, origin.port)
else:
    connection = http.client.HTTPConnection(hop.hostname, hop.port, timeout=30)
# A proxy is told the whole URL, unless it only tunnels.
prefix = options.url if options.proxy and not options.tunnel else ""
fields = {"Host": origin.netloc}
if options.keep_alive:
    fields["Connection"] = "keep-alive"

chunks = None if options.http10 else iter([b"in ", b"two chunks"])
calls = [
    ("GET", "/one", None),
    ("HEAD", "/two", None),
    ("POST", "/echo", b"a=1"),
    ("POST", "/echo", chunks),
    ("DELETE", "/three?q=1", None),
    ("GET", "/four", None),
]
sockets = []
for method, target, body in calls:
    if method == "POST" and body is None:
        continue
    connection.request(method, prefix + target, body=body, headers=fields, encode_chunked=body is chunks)
    if connection.sock not in sockets:
        sockets.append(connection.sock)
    answer = connection.getresponse()
    print(
        json.dumps(
            {
                "call": f"{method} {target}",
                "status": answer.status,
                "body": answer.read().decode(),
                "echoed": answer.headers.get("X-Body"),
                "sockets": len(sockets),
            }
        )
    )
connection.close()
