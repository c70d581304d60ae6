"""A gRPC server and client of another implementation than Go's: grpcio, over gRPC's
C core. Messages are bytes, so that no code has to be generated.

    grpc_peer.py serve PORT     until it is ended
    grpc_peer.py call TARGET    a line for each check; exit code 1 when one fails
"""

import concurrent.futures
import signal
import sys
import threading
import time

import grpc

SERVICE = "test.Peer"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
cancelled = threading.Event()  # the server's: a call that waited was cancelled


def serve(port):
    def echo(request, context):
        asked = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-got", asked.get("x-ask", "")), ("x-got-bin", asked.get("x-ask-bin", b""))))
        context.set_trailing_metadata((("x-end", "yes"), ("x-end-bin", bytes(range(256)))))
        return request

    def count(request, context):
        for i in range(int(request)):
            yield b"%d" % i

    def total(requests, context):
        n = size = 0
        for r in requests:
            n, size = n + 1, size + len(r)
        return b"%d %d" % (n, size)

    def talk(requests, context):
        for r in requests:
            yield r.upper()

    def fail(request, context):
        context.set_trailing_metadata((("x-why", "asked to"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here: 100 % gön")

    def fail_late(request, context):
        yield b"one"
        context.abort(grpc.StatusCode.ABORTED, "late")

    def remaining(request, context):
        return b"%f" % (context.time_remaining() or -1)

    def hang(request, context):
        context.add_callback(cancelled.set)
        cancelled.wait(20)
        return b""

    def was_cancelled(request, context):
        return b"yes" if cancelled.wait(10) else b"no"

    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
        "Remaining": grpc.unary_unary_rpc_method_handler(remaining),
        "Hang": grpc.unary_unary_rpc_method_handler(hang),
        "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if not server.add_insecure_port("127.0.0.1:" + port):
        sys.exit("port %s is taken" % port)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
    server.wait_for_termination()


def fails(call, code):
    """The error of a call that must fail so."""
    try:
        call()
    except grpc.RpcError as e:
        assert e.code() == code, "%s %s, want %s" % (e.code(), e.details(), code)
        return e
    raise AssertionError("it went well, want %s" % code)


def call(target):
    channel = grpc.insecure_channel(target, options=UNLIMITED)
    wait = 20

    def unary(name):
        return channel.unary_unary("/%s/%s" % (SERVICE, name))

    def check_unary():
        for body in (b"", b"hello", bytes(range(256)) * 100):
            assert unary("Echo")(body, timeout=wait) == body

    def check_server_streaming():
        stream = channel.unary_stream("/%s/Count" % SERVICE)
        assert list(stream(b"1000", timeout=wait)) == [b"%d" % i for i in range(1000)]
        assert list(stream(b"0", timeout=wait)) == []

    def check_client_streaming():
        stream = channel.stream_unary("/%s/Total" % SERVICE)
        assert stream((b"x" * i for i in range(500)), timeout=wait) == b"500 124750"
        assert stream(iter(()), timeout=wait) == b"0 0"

    def check_both_streaming():
        answered = threading.Event()

        def ask():  # each only when the one before was answered
            for i in range(50):
                answered.clear()
                yield b"word %d" % i
                assert answered.wait(wait), "no answer to %d" % i

        got = []
        for r in channel.stream_stream("/%s/Talk" % SERVICE)(ask(), timeout=wait):
            got.append(r)
            answered.set()
        assert got == [b"WORD %d" % i for i in range(50)], got

    def check_metadata():
        _, c = unary("Echo").with_call(b"", timeout=wait, metadata=(("x-ask", "a, b"), ("x-ask-bin", b"\0\xff\n")))
        first, last = dict(c.initial_metadata()), dict(c.trailing_metadata())
        assert first["x-got"] == "a, b" and first["x-got-bin"] == b"\0\xff\n", first
        assert last["x-end"] == "yes" and last["x-end-bin"] == bytes(range(256)), last

    def check_errors():
        e = fails(lambda: unary("Fail")(b"", timeout=wait), grpc.StatusCode.NOT_FOUND)
        assert e.details() == "nothing here: 100 % gön", e.details()
        assert dict(e.trailing_metadata())["x-why"] == "asked to"
        fails(lambda: unary("Nothing")(b"", timeout=wait), grpc.StatusCode.UNIMPLEMENTED)
        stream = channel.unary_stream("/%s/FailLate" % SERVICE)(b"", timeout=wait)
        assert next(stream) == b"one"
        assert fails(lambda: next(stream), grpc.StatusCode.ABORTED).details() == "late"

    def check_deadline():
        left = float(unary("Remaining")(b"", timeout=7))
        assert 0 < left <= 7.5, left
        left = float(unary("Remaining")(b""))
        assert left == -1 or left > 1e6, left
        began = time.monotonic()
        fails(lambda: unary("Hang")(b"", timeout=0.5), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - began < 10
        assert unary("WasCancelled")(b"", timeout=wait) == b"yes"

    def check_cancel():
        future = channel.unary_stream("/%s/Count" % SERVICE)(b"100000000", timeout=wait)
        next(future)
        future.cancel()
        fails(lambda: list(future), grpc.StatusCode.CANCELLED)
        assert unary("Echo")(b"after", timeout=wait) == b"after"

    def check_large():
        body = bytes(range(256)) * (16 << 12)  # 16 MiB
        assert unary("Echo")(body, timeout=60) == body

    def check_many():
        echo = unary("Echo")
        futures = [(b"%d" % i, echo.future(b"%d" % i, timeout=wait)) for i in range(1000)]
        assert all(f.result() == want for want, f in futures)

    failed = 0
    for check in (check_unary, check_server_streaming, check_client_streaming, check_both_streaming, check_metadata,
                  check_errors, check_deadline, check_cancel, check_large, check_many):
        name = check.__name__[len("check_"):]
        try:
            check()
            print("ok", name)
        except Exception as e:  # the rest is worth knowing too
            failed += 1
            print("FAILED %s: %s: %s" % (name, type(e).__name__, e))
    sys.exit(failed > 0)


if __name__ == "__main__":
    {"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
