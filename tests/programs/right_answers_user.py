"""What a user's program holds: data, and functions of many shapes that read it.

``right_answers.py`` runs this source once for each user, in a namespace that is named ``__main__`` as a program's is.
Every function of :data:`SHAPES` takes a small integer and returns plain data.
"""

# ruff: noqa: C400, E731, F821, SIM905 (functions are written here in every way that users write them)

import collections
import dataclasses
import functools
import math
import threading

# -- data; ``change`` changes it, as a user does between two calls

rate = 1
factor = 100  # the module ``tools`` has a ``factor`` of its own
table = {"a": 1}
items = [1]
Pair = collections.namedtuple("Pair", "left right")
pair = Pair(1, 2)


@dataclasses.dataclass
class Settings:
    weight: int


settings = Settings(1)

HELPERS = (
    "def helper(x):\n    return x + rate",
    "def helper(x):\n    return (lambda y: y * rate + table['a'])(x)",
    "helper = lambda x: x - 2 * rate",
)
exec(HELPERS[0], globals())

METHODS = (
    lambda self, x: ("first", x * rate * self.weight),
    lambda self, x: ("second", helper(x) + self.weight),
)


class Model:
    weight = 1
    run = METHODS[0]

    @staticmethod
    def check(x):
        return x + rate

    @classmethod
    def make(cls, x):
        return cls().run(x), cls.weight


# -- functions of many shapes


def plain(x):
    return x * rate


def by_helper(x):
    return helper(x), plain(x)


def defaults(x, extra=1):
    return x * rate + extra


def keyword_defaults(x, *, extra=1):
    return x * rate + extra


def _make_closure():
    held = 1

    def closure(x):
        return x * held + rate

    def set_held(value):
        nonlocal held
        held = value

    return closure, set_held


closure, set_held = _make_closure()


def _first_code(x):
    return "first", x + rate


def _second_code(x):
    return "second", x * rate


def recoded(x):
    return "none", x


recoded.__code__ = _first_code.__code__


def marked(x):
    return x * marked.weight


marked.weight = 1

lambda_of_main = lambda x: (x, rate, helper(x))


def makes_lambda(x):
    late = lambda y: y * rate + helper(y)
    return late(x), (lambda: rate)()


def makes_function(x):
    def inner(y):
        def innermost():
            return helper(y) + rate

        return innermost()

    return inner(x)


def generator_expression(x):
    return sum(y * rate for y in range(x + 1)), list(helper(y) for y in (x, x + 1))


def comprehension(x):
    return [y * rate for y in range(x + 1)], {y: helper(y) for y in range(2)}, {rate for _ in "ab"}


def generator(x):
    def count():
        for y in range(x + 1):
            yield y * rate

    return list(count())


def class_body(x):
    class Local:
        doubled = rate * 2
        helped = helper(3)
        values = [rate for _ in range(2)]

        def run(self):
            return rate, self.doubled

    return x, Local.doubled, Local.helped, Local.values, Local().run()


def by_eval(x):
    return rate, helper(x), eval("rate * x"), eval("[helper(y) for y in (1, 2)]")


def by_exec(x):
    made = {}
    exec("def f(y):\n    return y * rate + helper(y)\n", globals(), made)
    return rate, helper(x), made["f"](x), globals()["rate"]


def in_thread(x):
    found = []

    def run():
        found.append((x * rate, helper(x), (lambda: rate)()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def recursive(n):
    return rate if n <= 0 else rate + recursive(n - 1)


def _even(n):
    return rate if n <= 0 else _odd(n - 1)


def _odd(n):
    return -rate if n <= 0 else _even(n - 1)


def mutual(n):
    return _even(n)


def reads_table(x):
    return x, table["a"], sorted(table.items())


def reads_items(x):
    return x, list(items), sum(items)


def reads_pair(x):
    return x, pair.left, tuple(pair)


def reads_settings(x):
    return x, settings.weight


def by_tools(x):
    return tools.scaled(x), tools.Scale().of(x), factor


def by_recipes(x):
    return recipes.value(x), rate


def by_class(x):
    return Model().run(x), Model.check(x), Model.make(x)


def by_sort(x):
    return sorted(range(3), key=lambda y: -y * rate), max([1, x], key=helper)


def _decorate(function):
    @functools.wraps(function)
    def wrapper(x):
        return "wrapped", rate, function(x)

    return wrapper


@_decorate
def decorated(x):
    return x * rate + math.floor(1.5)


model = Model()
by_method = model.run
by_partial = functools.partial(defaults, extra=7)

SHAPES = (
    "plain by_helper defaults keyword_defaults closure recoded marked lambda_of_main makes_lambda makes_function "
    "generator_expression comprehension generator class_body by_eval by_exec in_thread recursive mutual reads_table "
    "reads_items reads_pair reads_settings by_tools by_recipes by_class by_sort decorated by_method by_partial "
    "of_tools of_recipes"
).split()
OF_THE_ENGINE = ("by_recipes", "of_recipes")
"""Shapes that call a module as it is on the engine."""

OF_CLASSES = ("by_class", "by_method")
"""Shapes that use a class, which is one class on an engine, as the last call has brought it."""


# -- functions that leave something on the engine, to be asked later


def _late():
    by_lambda = lambda x: (x * rate, helper(x), table["a"], list(items))

    def late(x):
        return by_lambda(x), class_body(x), reads_settings(x)

    return late


def keep_0():
    global kept_0
    kept_0 = _late()


def keep_1():
    global kept_1
    kept_1 = _late()


def define_rate(value):
    global rate
    rate = value


def get(name):
    """The function of a shape, as the user gives it to a call."""
    if name == "of_tools":
        return tools.scaled
    if name == "of_recipes":
        return recipes.value
    return globals()[name]


def change(what, value, in_place):
    """Change what the functions read.

    :param in_place: change the object itself, where that is possible, instead of replacing it.
    """
    names = globals()
    if what in ("rate", "factor"):
        names[what] = value
    elif what == "table":
        if in_place:
            table["a"] = value
        else:
            names["table"] = {"a": value}
    elif what == "items":
        if in_place:
            items[:] = [value, 1]
        else:
            names["items"] = [value, 1]
    elif what == "pair":
        names["pair"] = Pair(value, 2)
    elif what == "settings":
        if in_place:
            settings.weight = value
        else:
            names["settings"] = Settings(value)
    elif what == "helper":
        exec(HELPERS[value % len(HELPERS)], names)
    elif what == "method":
        Model.run = METHODS[value % len(METHODS)]
        names["by_method"] = model.run
    elif what == "class":
        Model.weight = value
    elif what == "default":
        defaults.__defaults__ = (value,)
    elif what == "keyword_default":
        if in_place:
            keyword_defaults.__kwdefaults__["extra"] = value
        else:
            keyword_defaults.__kwdefaults__ = {"extra": value}
    elif what == "closure":
        set_held(value)
    elif what == "code":
        recoded.__code__ = (_first_code, _second_code)[value % 2].__code__
    elif what == "attribute":
        marked.weight = value
    elif what == "tools":
        tools.factor = value
    else:
        raise ValueError(what)


CHANGES = (
    "rate factor table items pair settings helper method class default keyword_default closure code attribute tools"
).split()
