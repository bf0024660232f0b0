"""A receiver of webhooks on 127.0.0.1 that does as it is told, and writes down what came."""
import base64
import hashlib
import hmac
import http.server
import json
import threading


class Delivery:
    """One request that came."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.id = headers.get('webhook-id')
        self.event = json.loads(body)
        self.data = self.event.get('data', {})

    def is_signed_with(self, key):
        text = f'{self.id}.{self.headers["webhook-timestamp"]}.'.encode() + self.body
        mac = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return f'v1,{mac}' in self.headers.get('webhook-signature', '').split()


class Receiver:
    """answer(delivery) gives (status, headers); it may block."""

    def __init__(self, answer=lambda delivery: (204, {}), port=0):
        self.answer, self.got, self.changed = answer, [], threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_POST(self):  # pylint: disable=invalid-name
                body = self.rfile.read(int(self.headers['Content-Length']))
                delivery = Delivery(self.path, self.headers, body)
                receiver._came(delivery)
                status, headers = receiver.answer(delivery)
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header('Content-Length', '0')
                    self.end_headers()
                except OSError:
                    pass  # the sender has died

            def log_message(self, *args):  # pylint: disable=arguments-differ
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # the sender has died

        self.server = Server(('127.0.0.1', port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       kwargs={'poll_interval': 0.02}, daemon=True)
        self.thread.start()

    def url(self, path='/'):
        return f'http://127.0.0.1:{self.port}{path}'

    def _came(self, delivery):
        with self.changed:
            self.got.append(delivery)
            self.changed.notify_all()

    def until(self, condition, limit):
        """Waits for condition(list of deliveries); its value."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.got), limit):
                raise AssertionError(f'not within {limit:.0f} s; {len(self.got)} came')
            return condition(self.got)

    def jobs(self):
        with self.changed:
            return [delivery.data.get('job_id') for delivery in self.got]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
