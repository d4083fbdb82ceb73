"""A merchant's app in Python: who may come in, what holds while PHANTOM is away, and events.

SHIELD_URL=http://127.0.0.1:8081 SHIELD_KEY=phs_… WEBHOOK_SECRET=whsec_… PORT=3000 python3 app.py

SHIELD_URL is the server, or `phantom edge` beside this app.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

missing = [name for name in ("SHIELD_URL", "SHIELD_KEY", "WEBHOOK_SECRET") if not os.environ.get(name)]
if missing:
    sys.exit(f"Please set {', '.join(missing)}. POST /api/endpoints answers with the secret.")
SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
known = {}  # what PHANTOM said last of each customer


def may_use(customer):
    url = f"{os.environ['SHIELD_URL']}/api/shield/customers/{urllib.parse.quote(customer, safe='')}"
    question = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ['SHIELD_KEY']}"})
    try:
        with urllib.request.urlopen(question, timeout=0.5) as answer:
            known[customer] = json.load(answer)["access"]
        return known[customer]
    except (OSError, ValueError) as error:  # HTTP errors are OSErrors
        print(f"access: {error}", file=sys.stderr)
        return known.get(customer, True)  # a fault of ours locks nobody out


def is_genuine(headers, body):
    """The library "standardwebhooks" does the same."""
    try:
        if abs(time.time() - int(headers["webhook-timestamp"])) > 300:
            return False
    except (TypeError, ValueError):
        return False
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    want = "v1," + base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(want.encode(), one.encode()) for one in given)


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        # Your session says who this is. A header that a visitor can set does not.
        customer = self.headers.get("X-Customer")
        if not customer:
            self.answer(401, b"Please sign in.\n")
        elif may_use(customer):
            self.answer(200, b"Welcome.\n")
        else:
            self.answer(402, b"Please look at your billing page.\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/hooks" or not is_genuine(self.headers, body):
            return self.answer(400)
        event = json.loads(body)
        print("event", event["type"], event["data"].get("customer", ""), flush=True)
        if event["type"] == "access.changed":
            may_use(event["data"]["customer"])
        self.answer(204)

    def answer(self, status, body=b""):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), App).serve_forever()
