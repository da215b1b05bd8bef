"""The addresses of this host, and the order in which places are tried."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.host import addresses


class AddressTests(SynchronousTestCase):
    def test_local_and_loopback(self) -> None:
        self.assertTrue(addresses.is_local("127.0.0.1"))
        self.assertFalse(addresses.is_local("192.0.2.77"))
        self.assertFalse(addresses.is_local("localhost"))
        self.assertTrue(addresses.is_loopback("localhost"))
        self.assertTrue(addresses.is_loopback("::1"))
        self.assertFalse(addresses.is_loopback("192.0.2.77"))

    def test_what_is_advertised_are_addresses_of_this_host(self) -> None:
        *others, last = addresses.advertised()
        self.assertTrue(addresses.is_loopback(last))
        for each in others:
            self.assertTrue(addresses.is_local(each), each)
            self.assertFalse(addresses.is_loopback(each), each)
        self.assertEqual(len(set(others)), len(others))

    def test_where_to_listen(self) -> None:
        self.assertEqual(addresses.to_listen_at(""), ["0.0.0.0", "::"])
        self.assertEqual(addresses.to_listen_at("::"), ["0.0.0.0", "::"])
        self.assertEqual(addresses.to_listen_at("0.0.0.0"), ["0.0.0.0"])
        for other in ("192.0.2.7", "::1", "head.example", "nothing0"):
            self.assertEqual(addresses.to_listen_at(other), [other])
            self.assertEqual(addresses.advertised(other), [other])

    def test_an_interface(self) -> None:
        for name in addresses.interfaces():
            first, *others = addresses.to_listen_at(name)
            if first == name:
                continue  # it has no address that others can use
            self.assertEqual(first, "127.0.0.1")
            self.assertEqual(addresses.advertised(name), [*others, "127.0.0.1"])
            self.assertLessEqual(set(others), set(addresses.advertised()))


class OrderTests(SynchronousTestCase):
    """``in_order``."""

    FAR = (("192.0.2.7", 1), ("2001:db8::7", 1), ("head.example", 2))

    def test_a_controller_of_another_host_is_looked_for_there_first(self) -> None:
        order = addresses.in_order([("127.0.0.1", 1), *self.FAR])
        self.assertEqual(order, [*self.FAR, ("127.0.0.1", 1)])

    def test_a_controller_of_this_host_is_reached_by_loopback(self) -> None:
        here = addresses.advertised()[0]
        if addresses.is_loopback(here):
            self.skipTest("this host has only loopback addresses")
        order = addresses.in_order([*self.FAR, (here, 1), ("127.0.0.1", 1)])
        self.assertEqual(order, [("127.0.0.1", 1), *self.FAR, (here, 1)])

    def test_no_place_comes_twice(self) -> None:
        self.assertEqual(addresses.in_order(self.FAR * 2), list(self.FAR))
