"""Attributes that are checked when they are set."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, optional, yes_or_no


class Client(CheckedAttributes):
    block = Setting[bool](True, yes_or_no)
    progress = Setting[bool | None](None, optional(yes_or_no))
    declared: int

    @property
    def fixed(self) -> int:
        return 1


class CheckedAttributesTests(SynchronousTestCase):
    def refused(self, instance: Any, name: str) -> str:
        return str(self.assertRaises(AttributeError, setattr, instance, name, 1))

    def test_values_are_those_of_the_instance(self) -> None:
        one, two = Client(), Client()
        one.block = False
        self.assertEqual((one.block, two.block), (False, True))
        one.progress = None
        self.assertIsNone(one.progress)
        one.block = 1  # type: ignore[assignment]
        self.assertIs(one.block, True)

    def test_a_wrong_value_is_refused_and_the_old_one_kept(self) -> None:
        client: Any = Client()
        for wrong in ("no", None, 1.0, []):
            message = f"^block must be True or False, not {wrong!r}".replace("[]", r"\[\]")
            self.assertRaisesRegex(TypeError, message, setattr, client, "block", wrong)
        self.assertRaisesRegex(TypeError, "^progress ", setattr, client, "progress", "yes")
        self.assertEqual((client.block, client.progress), (True, None))

    def test_an_unknown_name_is_refused_with_the_right_one(self) -> None:
        client = Client()
        said = "Client has no attribute 'blok'; did you mean 'block'?"
        self.assertEqual(self.refused(client, "blok"), said)
        self.assertIn("did you mean 'block'?", self.refused(client, "Block"))
        said = "Client has no attribute 'colour'. It can be set: block, progress."
        self.assertEqual(self.refused(client, "colour"), said)
        self.assertFalse(vars(client))
        client.declared = 5
        self.refused(client, "fixed")

    def test_classes_of_users_set_what_they_like(self) -> None:
        def initialise(self: Any) -> None:
            self.log = []
            self._private = 1
            self.colour = "red"
            self.block = False

        own = type("Own", (Client,), {"__module__": "__main__", "__init__": initialise, "bloc": 0})
        instance: Any = own()
        self.assertEqual((instance.log, instance.colour, instance.block), ([], "red", False))
        instance.bloc = 3
        self.assertIn("did you mean 'block'?", self.refused(instance, "blok"))
        self.assertRaises(TypeError, setattr, instance, "block", "no")

    def test_a_class_of_the_users_can_have_another_default(self) -> None:
        own: Any = type("Own", (Client,), {"__module__": "__main__", "block": False})
        self.assertIs(own().block, False)
