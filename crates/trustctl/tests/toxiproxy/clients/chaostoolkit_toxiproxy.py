"""All functions of PyPI's chaostoolkit-toxiproxy, called as an experiment calls them."""

import logging
import time
import unittest

import logzero
from chaostoxi.proxy import actions, probes
from chaostoxi.toxic import actions as toxics
from peers import Upstream, check_latency, connect, echo, ends, is_refused

HOST, PORT = "localhost", 8474


class ChaosToolkit(unittest.TestCase):
    def setUp(self):
        self.configuration = {"toxiproxy_host": HOST, "toxiproxy_port": PORT}
        self.addCleanup(self.call, actions.delete_proxy, "p")
        self.call(actions.delete_proxy, "p")
        self.upstream = self.enterContext(Upstream())

    def call(self, function, *arguments, **named):
        return function(*arguments, **named, configuration=self.configuration)

    def create(self):
        upstream = ("localhost", self.upstream.port)
        self.assertTrue(self.call(actions.create_proxy, "p", *upstream, "127.0.0.1"))
        return self.attribute("listen")

    def attribute(self, name):
        return self.call(probes.get_proxy_attribute, "p", name)

    def toxic_names(self):
        return [toxic["name"] for toxic in self.attribute("toxics")]

    def test_a_proxy_is_created_changed_and_deleted(self):
        self.assertFalse(self.call(probes.proxy_exist, "p"))
        self.assertIsNone(self.attribute("listen"))
        # By default it listens on all interfaces, where the port is after the last colon.
        self.call(actions.create_proxy, "p", "localhost", self.upstream.port)
        self.assertTrue(self.call(probes.proxy_exist, "p"))
        port = self.configuration["p_PORT"]
        self.assertEqual(self.attribute("listen"), f"[::]:{port}")
        echo(self.enterContext(connect(f"127.0.0.1:{port}")))
        echo(self.enterContext(connect(f"[::1]:{port}")))
        peer = self.enterContext(connect(f"127.0.0.1:{port}"))
        echo(peer)
        with Upstream() as other:
            self.call(actions.modify_proxy, "p", upstream_address=other.address)
            self.assertTrue(ends(peer))
            self.assertEqual(self.attribute("upstream"), other.address)
            self.assertEqual(self.configuration["p_PORT"], port)
            echo(self.enterContext(connect(f"127.0.0.1:{port}")))
        self.call(actions.modify_proxy, "p", listen_address="127.0.0.1:0")
        self.call(actions.delete_proxy, "p")
        self.assertFalse(self.call(probes.proxy_exist, "p"))
        self.assertTrue(is_refused(f"127.0.0.1:{port}"))

    def test_a_disabled_proxy_refuses_and_an_enabled_one_has_its_port_and_toxics(self):
        listen = self.create()
        self.call(toxics.create_latency_toxic, "p", "slow", 100)
        self.call(actions.disable_proxy, "p")
        self.assertFalse(self.attribute("enabled"))
        self.assertTrue(is_refused(listen))
        self.call(actions.enable_proxy, "p")
        self.assertTrue(self.attribute("enabled"))
        self.assertEqual((self.attribute("listen"), self.toxic_names()), (listen, ["slow"]))
        check_latency(self.enterContext(connect(listen)), 100)

    def test_latencies_come_go_and_add_up(self):
        peer = self.enterContext(connect(self.create()))
        echo(peer)
        self.assertTrue(self.call(toxics.create_latency_toxic, "p", "one", 100))
        check_latency(peer, 100)
        self.assertTrue(self.call(toxics.create_latency_toxic, "p", "two", 100, 0))
        check_latency(peer, 200)
        self.assertTrue(self.call(toxics.delete_toxic, "p", "one"))
        check_latency(peer, 100)
        self.assertEqual(self.toxic_names(), ["two"])
        self.assertFalse(self.call(toxics.delete_toxic, "p", "one"))

    def test_bandwidth_is_kept_to(self):
        peer = self.enterContext(connect(self.create()))
        self.assertTrue(self.call(toxics.create_bandwith_degradation_toxic, "p", "narrow", 100))
        # But for a millisecond of data, which is sent first.
        self.assertGreaterEqual(echo(peer, bytes(20_000)), 199)

    def test_a_connection_is_closed_later(self):
        peer = self.enterContext(connect(self.create()))
        self.assertTrue(self.call(toxics.create_slow_connection_close_toxic, "p", "late", 200))
        echo(peer)
        began = time.monotonic()
        peer.shutdown(1)
        self.assertTrue(ends(peer))
        self.assertGreaterEqual(time.monotonic() - began, 0.2)

    def test_a_timeout_closes_connections_in_time_and_when_it_is_deleted(self):
        listen = self.create()
        began = time.monotonic()
        self.assertTrue(self.call(toxics.create_timeout_toxic, "p", "cut", 100))
        peer = self.enterContext(connect(listen))
        peer.sendall(b"lost")
        self.assertTrue(ends(peer))
        self.assertGreaterEqual(time.monotonic() - began, 0.1)
        self.assertTrue(self.call(toxics.delete_toxic, "p", "cut"))
        peer = self.enterContext(connect(listen))
        echo(peer)
        self.assertTrue(self.call(toxics.create_timeout_toxic, "p", "cut", 0))
        peer.sendall(b"lost")
        self.assertTrue(self.call(toxics.delete_toxic, "p", "cut"))
        self.assertTrue(ends(peer))

    def test_slices_come_one_after_the_other(self):
        peer = self.enterContext(connect(self.create()))
        self.assertTrue(self.call(toxics.create_slicer_toxic, "p", "thin", 100, 0, 10_000))
        # Ten of them, with nine pauses between them.
        self.assertGreaterEqual(echo(peer, bytes(1000)), 90)

    def test_data_is_limited(self):
        peer = self.enterContext(connect(self.create()))
        self.assertTrue(self.call(toxics.create_limiter_toxic, "p", "short", 1000))
        echo(peer, bytes(999))
        peer.sendall(b"xy")
        self.assertEqual(peer.recv(10), b"x")
        self.assertTrue(ends(peer))

    def test_a_reset_enables_all_and_removes_toxics(self):
        listen = self.create()
        self.call(toxics.create_latency_toxic, "p", "slow", 5000)
        self.call(actions.disable_proxy, "p")
        self.call(actions.reset)
        self.assertEqual((self.attribute("enabled"), self.attribute("toxics")), (True, []))
        check_latency(self.enterContext(connect(listen)), 0)

    def test_any_toxic_can_be_created_without_attributes(self):
        self.create()
        self.assertTrue(self.call(toxics.create_toxic, "p", "nothing", "noop"))
        self.assertTrue(
            self.call(
                toxics.create_toxic, "p", "reset", "reset_peer", stream="upstream", toxicity=0.5,
                attributes={"timeout": 10},
            )
        )
        reset, nothing = self.attribute("toxics")
        self.assertEqual(
            reset,
            {
                "attributes": {"timeout": 10}, "name": "reset", "type": "reset_peer",
                "stream": "upstream", "toxicity": 0.5,
            },
        )
        self.assertEqual((nothing["attributes"], nothing["toxicity"]), ({}, 1))

    def test_errors_are_failures_of_the_client(self):
        self.create()
        with self.assertRaises(AssertionError):
            self.create()
        with self.assertRaises(AssertionError):
            self.call(actions.enable_proxy, "none")
        # It takes the name of what it has not got.
        with self.assertRaises(TypeError):
            self.call(toxics.create_toxic, "p", "wrong", "none")
        self.assertEqual(self.toxic_names(), [])


if __name__ == "__main__":
    # The client logs each request.
    logzero.loglevel(logging.CRITICAL)
    unittest.main()
