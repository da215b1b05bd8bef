"""Which engine gets which item of an executor."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.futures.dispatch import (
    HANDED,
    LOOK_AFTER,
    OVER,
    SHORT,
    WAITING,
    Dispatcher,
    Item,
    is_first,
)


class Places:
    """Hands items over as an executor does, and notes where they are."""

    def __init__(self, engines: int = 2, most: int | None = None) -> None:
        self.dispatcher = Dispatcher(range(engines), most)
        self.now = 0.0
        self.at: dict[str, int] = {}
        self.items: dict[str, Item] = {}

    def add(self, *names: str, kind: object = "kind") -> None:
        for name in names:
            item = self.items[name] = Item(name, None, kind)
            self.dispatcher.add(item)
        self.go_on()

    def go_on(self) -> None:
        dispatcher = self.dispatcher
        while (item := dispatcher.next_item()) is not None:
            engine = dispatcher.engine_for(item)
            if engine is None:
                return
            item.state = HANDED
            dispatcher.hand_over(item, engine, self.now)
            self.at[item.future] = engine

    def end(self, name: str, seconds: float) -> None:
        self.now += seconds
        self.dispatcher.over(self.items[name], self.now)
        del self.at[name]
        self.go_on()


class DispatcherTests(SynchronousTestCase):
    """Each behaviour that users notice."""

    def test_an_engine_has_one_item_as_long_as_nothing_is_known(self) -> None:
        places = Places()
        places.add("a", "b", "c")
        self.assertEqual(places.at, {"a": 0, "b": 1})
        self.assertIs(places.items["c"].state, WAITING)
        places.end("b", 5.0)
        self.assertEqual(places.at, {"a": 0, "c": 1})

    def test_short_items_have_the_next_one_at_hand(self) -> None:
        places = Places()
        places.add("a", "b")
        places.end("a", SHORT / 10)
        places.end("b", 0.0)
        places.add("c", "d", "e", "f", "g")
        self.assertEqual(sorted(places.at.values()), [0, 0, 1, 1])
        self.assertTrue(is_first(places.items["c"]))
        self.assertFalse(is_first(places.items["e"]))
        # One that took long ends that at once.
        places.end("c", SHORT * 2)
        self.assertEqual(sorted(places.at), ["d", "e", "f"])

    def test_kinds_are_told_apart(self) -> None:
        places = Places(1)
        places.add("quick", kind="quick")
        places.end("quick", 0.0)
        places.add("one", kind="quick")
        places.add("unknown", kind="other")
        self.assertEqual(places.at, {"one": 0})

    def test_a_limit_for_all(self) -> None:
        places = Places(4, most=2)
        places.add("a", "b", "c")
        self.assertEqual(sorted(places.at), ["a", "b"])

    def test_what_is_cancelled_is_passed_over(self) -> None:
        places = Places(1)
        places.add("a", "b", "c")
        places.items["b"].state = OVER
        places.end("a", 1.0)
        self.assertEqual(places.at, {"c": 0})
        self.assertEqual(places.dispatcher.take_all(), [])

    def test_what_comes_back_is_first_and_goes_elsewhere(self) -> None:
        places = Places(2)
        places.add("a", "b", "c")
        places.end("b", 1.0)
        places.dispatcher.give_back(places.items["a"], True)
        places.add("d")
        # Engine 0 is stuck, but it is the only one that is free.
        self.assertEqual(places.at["a"], 0)
        places.end("c", 1.0)
        self.assertEqual(places.at["d"], 1)
        places.dispatcher.give_back(places.items["a"], True)
        places.end("d", 1.0)
        places.add("e")
        self.assertEqual(places.at["a"], 1)

    def test_it_is_asked_for_what_may_wait_in_vain(self) -> None:
        places = Places(2)
        places.add("a", "b")
        dispatcher = places.dispatcher
        self.assertIsNone(dispatcher.next_look())
        places.end("b", 0.01)
        self.assertEqual(dispatcher.next_look(), LOOK_AFTER)
        self.assertEqual(dispatcher.to_take_back(LOOK_AFTER / 2), [])
        self.assertEqual(dispatcher.to_take_back(LOOK_AFTER), [places.items["a"]])
        again = dispatcher.next_look()
        assert again is not None
        self.assertGreater(again, 3 * LOOK_AFTER)
        places.add("c")
        self.assertIsNone(dispatcher.next_look())

    def test_one_that_keeps_the_others_waiting_is_taken_back_too(self) -> None:
        """With a limit of items, an engine may be idle although items are waiting."""
        places = Places(2, most=1)
        places.add("a", "b")
        dispatcher = places.dispatcher
        self.assertEqual(dispatcher.next_look(), LOOK_AFTER)
        [stuck] = dispatcher.to_take_back(LOOK_AFTER)
        self.assertIs(stuck, places.items["a"])
        dispatcher.give_back(stuck, True)
        places.go_on()
        self.assertEqual(places.at, {"a": 1})

    def test_engines_come_and_go(self) -> None:
        places = Places(1)
        places.add("a", "b", "c")
        places.dispatcher.set_engines([0, 7])
        places.go_on()
        self.assertEqual(places.at, {"a": 0, "b": 7})
        places.dispatcher.set_engines([7])
        places.end("a", 1.0)
        self.assertEqual(places.at, {"b": 7})
        self.assertEqual(places.dispatcher.engines, [7])
        places.end("b", 1.0)
        self.assertEqual(places.at, {"c": 7})

    def test_one_that_was_cancelled_in_time_makes_room(self) -> None:
        places = Places(1)
        places.add("a", "b")
        places.dispatcher.forget(places.items["a"])
        places.go_on()
        self.assertEqual(places.at["b"], 0)


class DispatcherStory(RuleBasedStateMachine):
    """Any events in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(2)
        self.present = {0, 1}
        self.next_engine = 2
        self.count = 0
        self.cancelled: set[str] = set()
        self.ended: set[str] = set()

    def handed(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.places.at))))

    @rule(number=st.integers(1, 4), kind=st.sampled_from(["x", "y"]))
    def add(self, number: int, kind: str) -> None:
        for _ in range(number):
            self.count += 1
            self.places.add(f"{self.count}", kind=kind)

    @precondition(lambda self: self.places.at)
    @rule(data=st.data(), seconds=st.sampled_from([0.0, 0.001, 0.2]))
    def end(self, data: Any, seconds: float) -> None:
        name = self.handed(data)
        self.places.end(name, seconds)
        self.ended.add(name)

    @precondition(lambda self: self.places.at)
    @rule(data=st.data(), stuck=st.booleans())
    def give_back(self, data: Any, stuck: bool) -> None:
        name = self.handed(data)
        del self.places.at[name]
        self.places.dispatcher.give_back(self.places.items[name], stuck)
        self.places.go_on()

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        waiting = [name for name, item in self.places.items.items() if item.state is WAITING]
        if waiting:
            name = data.draw(st.sampled_from(waiting))
            self.places.items[name].state = OVER
            self.cancelled.add(name)

    @rule()
    def engine_comes(self) -> None:
        self.present.add(self.next_engine)
        self.next_engine += 1
        self.places.dispatcher.set_engines(self.present)
        self.places.go_on()

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def engine_goes(self, data: Any) -> None:
        self.present.discard(data.draw(st.sampled_from(sorted(self.present))))
        self.places.dispatcher.set_engines(self.present)

    @rule()
    def look(self) -> None:
        self.places.now += LOOK_AFTER
        for item in self.places.dispatcher.to_take_back(self.places.now):
            assert item.state is HANDED

    @invariant()
    def nobody_has_more_than_two(self) -> None:
        engines = list(self.places.at.values())
        assert all(engines.count(engine) <= 2 for engine in engines)
        assert self.places.dispatcher.handed == len(engines)

    @invariant()
    def nothing_waits_while_an_engine_idles(self) -> None:
        idle = self.present - set(self.places.at.values())
        assert not idle or self.places.dispatcher.next_item() is None

    def teardown(self) -> None:
        self.engine_comes()
        while self.places.at:
            name = next(iter(self.places.at))
            self.places.end(name, 0.0)
            self.ended.add(name)
        assert self.ended | self.cancelled == set(self.places.items)
        assert not self.ended & self.cancelled


class DispatcherPropertiesTests(SynchronousTestCase):
    """Nothing is lost, doubled or left waiting."""

    def test_any_story(self) -> None:
        case = DispatcherStory.TestCase
        case.settings = settings(
            max_examples=60, stateful_step_count=30, deadline=None, derandomize=True
        )
        case().runTest()
