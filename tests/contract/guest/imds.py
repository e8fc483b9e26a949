"""A faithful metadata service for tests: EC2's version 1 and 2, and its ways to fail."""

import secrets
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

META = {
    "instance-id": "i-0123456789abcdef0",
    "ami-id": "ami-00000003",
    "instance-type": "m1.small",
    "reservation-id": "r-47a5402e",
    "ami-launch-index": "0",
    "local-hostname": "worker-1.cernvm.test",
    "local-ipv4": "10.77.0.11",
}


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        faults = self.server.faults
        if "v1_only" in faults:
            return self.answer(404)
        if "token_lost" in faults:
            return time.sleep(5)
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return self.answer(400)
        token = secrets.token_urlsafe(40)
        self.server.tokens.add(token)
        return self.answer(200, token.encode())

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        token = self.headers.get("X-aws-ec2-metadata-token")
        needs_token = not {"v1_only", "token_lost"} & server.faults
        if needs_token and token not in server.tokens:
            return self.answer(401)
        if server.failures_left > 0:
            server.failures_left -= 1
            return self.answer(503)
        if "no_metadata" in server.faults:
            return self.answer(404)
        if "forbidden" in server.faults:
            return self.answer(403)
        path = self.path.removeprefix("/latest/")
        if path == "meta-data/":
            return self.answer(200, "\n".join(server.meta).encode())
        if path == "user-data":
            return self.user_data()
        value = server.meta.get(path.removeprefix("meta-data/"))
        return self.answer(404) if value is None else self.answer(200, value.encode())

    def user_data(self):
        server = self.server
        if server.user_data is None:
            return self.answer(404)
        if "drip" in server.faults:
            return self.drip(server.user_data)
        if "half" in server.faults:
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.user_data) + 100))
            self.end_headers()
            self.wfile.write(server.user_data)
            self.close_connection = True
            return None
        if "redirect" in server.faults:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if "no_length" in server.faults:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(server.user_data)
            self.close_connection = True
            return None
        return self.answer(200, server.user_data)

    def drip(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            for letter in data:
                self.wfile.write(bytes([letter]))
                if self.server.closing.wait(0.1):
                    return
        except OSError:
            pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, user_data, faults, meta, failures):
        super().__init__(("127.0.0.1", 0), Service)
        self.user_data, self.faults, self.failures_left = user_data, set(faults), failures
        self.meta = {**META, **(meta or {})}
        self.tokens, self.asked, self.closing = set(), [], threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up early is one of the tests


@contextmanager
def metadata_service(user_data=None, *faults, meta=None, failures=0):
    """A running service; `faults` name its ways to fail, the first `failures` answers are 503."""
    with Server(user_data, faults, meta, failures) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
