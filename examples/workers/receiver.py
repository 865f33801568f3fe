"""A service that Anteroom pushes jobs to: verifies each push, does its work once, and answers with the result.

The signature is that of Standard Webhooks (https://www.standardwebhooks.com).
"""
import base64, hashlib, hmac, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE = 5 * 60  # seconds that a push may be old, or ahead of this clock
LOCK, RESULTS = threading.Lock(), {}  # results by webhook-id: in a real service a table of its database

def shout(data):
    """The work."""
    return data.decode().upper().encode()

def is_signed(headers, body):
    """Tells whether a push comes from whoever knows the secret, and just now."""
    message, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE:
        return False
    digest = hmac.new(SECRET, f"{message}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    # There may be several, while secrets are being replaced. Each is compared in constant time.
    signatures = headers.get("webhook-signature", "").encode().split()
    return any([hmac.compare_digest(expected, signature) for signature in signatures])

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_signed(self.headers, body):
            return self.answer(401, b"the signature is wrong, or too old\n")
        message = self.headers["webhook-id"]
        with LOCK:  # a push that comes again, as its answer was lost, is answered as the first time
            is_new = message not in RESULTS
            result = RESULTS.setdefault(message, None)
        if is_new:
            try:
                result = RESULTS[message] = shout(body)
            except Exception as error:
                del RESULTS[message]
                return self.answer(500, repr(error).encode())  # 5xx is tried again, 4xx is not
            print(f"done: {message}", flush=True)
        if result is None:
            return self.answer(503, b"it is being done\n", {"Retry-After": "1"})
        self.answer(200, result)

    def answer(self, status, body, headers={}):
        self.send_response(status)
        fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": len(body), **headers}
        for name, value in fields.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 8090))), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
