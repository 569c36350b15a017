"""All functions of PyPI's toxiproxy-python, and what its users lean on."""

import json
import unittest

from peers import Upstream, check_latency, connect, echo, ends, is_refused
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy
from toxiproxy.toxic import Toxic

HERE = ("127.0.0.1", 8474)


class ToxiproxyPython(unittest.TestCase):
    def setUp(self):
        self.server = Toxiproxy()
        self.server.destroy_all()
        self.addCleanup(self.server.destroy_all)
        self.upstream = self.enterContext(Upstream())

    def create(self, name="p"):
        return self.server.create(upstream=self.upstream.address, name=name)

    def connect(self, proxy):
        return self.enterContext(connect(proxy.listen))

    def test_the_server_runs_and_has_the_version_that_clients_know(self):
        self.assertTrue(self.server.running())
        self.assertEqual(json.loads(self.server.version()), {"version": "2.12.0"})

    def test_no_server_is_noticed(self):
        self.addCleanup(self.server.update_api_consumer, *HERE)
        self.server.update_api_consumer("127.0.0.1", 1)
        self.assertFalse(self.server.running())
        self.assertIsNone(self.server.version())

    def test_a_proxy_is_created_found_and_destroyed(self):
        proxy = self.create()
        self.assertIsInstance(proxy, Proxy)
        host, port = proxy.listen.split(":")
        self.assertEqual(host, "127.0.0.1")
        self.assertNotEqual(int(port), 0)
        found = self.server.get_proxy("p")
        self.assertEqual(vars(found), vars(proxy))
        self.assertEqual(list(self.server.proxies()), ["p"])
        echo(self.connect(proxy))
        self.assertTrue(self.server.destroy(proxy))
        self.assertIsNone(self.server.get_proxy("p"))
        self.assertFalse(self.server.destroy("p"))
        self.assertTrue(is_refused(proxy.listen))

    def test_a_proxy_that_is_created_disabled_keeps_its_listen_text(self):
        proxy = self.server.create(
            upstream="localhost:3306", name="off", enabled=False, listen="localhost:43215"
        )
        self.assertEqual((proxy.enabled, proxy.listen), (False, "localhost:43215"))
        self.assertTrue(is_refused(proxy.listen))

    def test_a_list_of_proxies_is_created_once(self):
        listed = [
            {"name": name, "upstream": self.upstream.address, "listen": "127.0.0.1:0"}
            for name in ("a", "b")
        ]
        first = self.server.populate(listed)
        self.assertEqual([proxy.name for proxy in first], ["a", "b"])
        for proxy, entry in zip(first, listed):
            echo(self.connect(proxy))
            entry["listen"] = proxy.listen
        kept = self.connect(first[0])
        echo(kept)
        self.assertEqual(self.server.populate(listed), [])
        echo(kept)
        # Another upstream makes it a new proxy.
        listed[0]["upstream"] = f"127.0.0.1:{self.upstream.port}"
        again = self.server.populate(listed)
        self.assertEqual([proxy.listen for proxy in again], [first[0].listen])
        self.assertTrue(ends(kept))
        echo(self.connect(again[0]))

    def test_a_disabled_proxy_refuses_and_an_enabled_one_has_its_port_and_toxics(self):
        proxy = self.create()
        proxy.add_toxic(type="latency", attributes={"latency": 123})
        peer = self.connect(proxy)
        proxy.disable()
        self.assertFalse(proxy.enabled)
        self.assertTrue(is_refused(proxy.listen))
        self.assertTrue(ends(peer))
        proxy.enable()
        self.assertTrue(proxy.enabled)
        self.assertEqual(self.server.get_proxy("p").listen, proxy.listen)
        self.assertEqual(proxy.get_toxic("latency_downstream").attributes["latency"], 123)
        check_latency(self.connect(proxy), 123)
        with proxy.down():
            self.assertTrue(is_refused(proxy.listen))
        check_latency(self.connect(proxy), 123)

    def test_toxics_are_added_listed_and_destroyed(self):
        proxy = self.create()
        peer = self.connect(proxy)
        echo(peer)
        self.assertEqual(proxy.toxics(), {})
        self.assertIsNone(proxy.get_toxic("latency_downstream"))
        proxy.add_toxic(type="latency", attributes={"latency": 100})
        check_latency(peer, 100)
        proxy.add_toxic(
            type="latency", name="back", stream="upstream", toxicity=1.0,
            attributes={"latency": 100, "jitter": 0},
        )
        check_latency(peer, 200)
        toxics = proxy.toxics()
        self.assertEqual(sorted(toxics), ["back", "latency_downstream"])
        back = proxy.get_toxic("back")
        self.assertIsInstance(back, Toxic)
        self.assertEqual((back.type, back.stream, back.toxicity), ("latency", "upstream", 1))
        self.assertEqual(back.attributes, {"latency": 100, "jitter": 0})
        self.assertTrue(proxy.destroy_toxic("back"))
        check_latency(peer, 100)
        self.assertTrue(proxy.destroy_toxic("latency_downstream"))
        check_latency(peer, 0)

    def test_two_toxics_of_a_stream_add_up(self):
        proxy = self.create()
        for name in ("one", "two"):
            proxy.add_toxic(type="latency", name=name, attributes={"latency": 100})
        check_latency(self.connect(proxy), 200)

    def test_a_timeout_closes_connections_when_it_is_destroyed(self):
        proxy = self.create()
        peer = self.connect(proxy)
        echo(peer)
        proxy.add_toxic(type="timeout", attributes={"timeout": 0})
        peer.sendall(b"lost")
        proxy.destroy_toxic("timeout_downstream")
        self.assertTrue(ends(peer))
        echo(self.connect(proxy))

    def test_a_reset_enables_all_and_removes_toxics(self):
        on, off = self.create("on"), self.create("off")
        on.add_toxic(type="bandwidth", attributes={"rate": 0})
        off.add_toxic(type="latency", attributes={"latency": 5000})
        off.disable()
        self.assertTrue(self.server.reset())
        for proxy in (on, off):
            self.assertEqual(proxy.toxics(), {})
            check_latency(self.connect(proxy), 0)

    def test_errors_are_the_exceptions_of_the_client(self):
        proxy = self.create()
        with self.assertRaises(ProxyExists):
            self.create()
        # The client looks before it asks, so this is what the server says.
        twin = {"name": "p", "upstream": self.upstream.address, "listen": "127.0.0.1:0"}
        with self.assertRaisesRegex(ProxyExists, "proxy already exists"):
            APIConsumer.post("/proxies", json=twin)
        proxy.add_toxic(type="noop")
        with self.assertRaisesRegex(ProxyExists, "toxic already exists"):
            proxy.add_toxic(type="noop")
        with self.assertRaisesRegex(InvalidToxic, "invalid toxic type"):
            proxy.add_toxic(type="none")
        with self.assertRaisesRegex(InvalidToxic, "stream was invalid"):
            proxy.add_toxic(type="noop", stream="sideways")
        with self.assertRaisesRegex(NotFound, "toxic not found"):
            proxy.destroy_toxic("none")
        proxy.destroy()
        with self.assertRaisesRegex(NotFound, "proxy not found"):
            proxy.destroy()
        with self.assertRaisesRegex(NotFound, "proxy not found"):
            proxy.toxics()


if __name__ == "__main__":
    unittest.main()
