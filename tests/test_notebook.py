"""Notebooks on a real cluster, driven by nbclient, and by messages of a front end."""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import shutil
import tempfile
import time
from html import unescape
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.interactive import OnSharedCluster

try:
    import nbclient
    import nbformat
    from jupyter_client.manager import KernelManager
except ImportError:
    nbclient = nbformat = KernelManager = None

QUIET = ["--log-level=ERROR"]

CARD_SESSION = """
import re
import time
import ipywidgets.widgets.widget as registry
from ipython1.kernel.clusters import clusterwidget

card = clusterwidget._widgets[cluster]
before = len(registry._instances)
cluster._repr_mimebundle_()
assert len(registry._instances) == before  # it is the same widget

def wait_for(pattern, widget):
    end = time.monotonic() + 60
    while not (found := re.search(pattern, widget.value)):
        assert time.monotonic() < end, widget.value
        time.sleep(0.02)
    print(found[0])

card.number.value = 5
card.scale.button.click()
wait_for("started engine 4", card.message)
wait_for("5 of 5", card.card)
card.number.value = 4
card.scale.button.click()
print(card.scale.button.description)
card.scale.button.click()
wait_for("ended engine 4", card.message)
wait_for("4 of 4", card.card)
cluster.close()
end = time.monotonic() + 60
while not card.ended and time.monotonic() < end:
    time.sleep(0.02)
card.close()
print(card.ended, len(registry._instances))

# A card does not keep its cluster alive, and goes with it.
other = client.Cluster.attach()
display(other)
gone = clusterwidget._widgets[other]
del other
while not (gone.ended and not registry._instances) and time.monotonic() < end:
    time.sleep(0.02)
print(gone.ended, len(registry._instances))
"""
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class InNotebook(OnSharedCluster):
    if nbclient is None:
        skip = "nbclient and ipykernel are not installed (the extra 'notebook')"

    def setUp(self) -> None:
        super().setUp()
        # Kernels and front ends in this test see only their own configuration.
        folder = tempfile.mkdtemp(prefix="ipython1-notebook-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        before = dict(os.environ)
        self.addCleanup(os.environ.update, before)
        self.addCleanup(os.environ.clear)
        os.environ.update(self.environ)
        os.environ.update(
            JUPYTER_CONFIG_DIR=folder,
            JUPYTER_DATA_DIR=folder,
            JUPYTER_RUNTIME_DIR=folder,
            JUPYTER_PREFER_ENV_PATH="1",
        )
        self.folder = folder


class ExecutedTests(InNotebook):
    """Cells that run one after the other, and their outputs."""

    def outputs(self, *cells: str) -> list[list[dict[str, Any]]]:
        """The outputs of each cell of a notebook; the first cell creates and activates a client."""
        sources = [
            "from ipython1.kernel import client\nmec = client.MultiEngineClient(); mec.activate()",
            *cells,
        ]
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources]
        )
        executor = nbclient.NotebookClient(
            notebook,
            timeout=60,
            kernel_name="python3",
            extra_arguments=QUIET,
            allow_errors=True,
            resources={"metadata": {"path": self.folder}},
        )
        executor.execute()
        self.notebook = notebook
        self.assertEqual(notebook.cells[0].outputs, [])
        return [cell.outputs for cell in notebook.cells[1:]]

    @staticmethod
    def html(outputs: list[dict[str, Any]]) -> str:
        return "".join(each["data"].get("text/html", "") for each in outputs if "data" in each)

    @staticmethod
    def text(outputs: list[dict[str, Any]]) -> str:
        parts = []
        for each in outputs:
            if each["output_type"] == "stream":
                parts.append(each["text"])
            elif each["output_type"] == "error":
                parts.append("\n".join(each["traceback"]))
            else:
                parts.append(each["data"].get("text/plain", ""))
        return ESCAPES.sub("", "\n".join(parts))

    def as_text(self, *cells: str) -> str:
        """A notebook as text: images by their type, HTML without its tags."""
        parts = []
        for number, (source, outputs) in enumerate(
            zip(cells, self.outputs(*cells), strict=True), 2
        ):
            parts.append(f"In [{number}]:")
            parts += [f"    {line}" for line in source.split("\n")]
            for output in outputs:
                html = self.html([output])
                html = re.sub(r'<img src="data:(image/\w+);[^>]*>', r"[\1]\n", html)
                html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
                html = re.sub(r"</?(div|pre|tr|table|thead|tbody|details)\b[^>]*>", "\n", html)
                html = unescape(re.sub(r"<[^>]*>", "", re.sub(r"</t[dh]>", "  ", html)))
                shown = html or self.text([output])
                parts += [line.rstrip() for line in shown.split("\n") if line.strip()]
            parts.append("")
        return "\n".join(parts)

    def test_transcript(self) -> None:
        """The notebook that the documentation shows."""
        if importlib.util.find_spec("matplotlib") is None:
            raise SkipTest("matplotlib is not installed")
        self.align_engines()
        seen = self.as_text(
            "mec.targets = [0, 1]",
            "%px import matplotlib.pyplot as plt",
            "%%px\nplt.plot(range(3));",
            "%%px\nfrom IPython.display import HTML\nHTML('<b>bold</b> words')",
            "mec",
            "try:\n    mec.execute('1/0')\nexcept client.CompositeError as e:\n    error = e\nerror",
            "mec.queue_status()",
        )
        self.check_transcript("notebook", "Rich results in a notebook", seen)

    def test_rich_results(self) -> None:
        """Figures, tables, images and HTML of each engine appear under its label."""
        drawn, table, shown, silent, escaped = self.outputs(
            "%%px --targets 0,1\nfrom IPython.display import HTML, display\n"
            "try:\n"
            "    import matplotlib.pyplot as plt\n"
            "    plt.plot([1, 2, 3])\n"
            "except ImportError:\n"
            "    display({'image/png': 'iVBORw0KGgo='}, raw=True)\n"
            "print('drawn')",
            "%%px --targets 2\nclass Table:\n"
            "    def _repr_html_(self): return '<table><tr><td>cell</td></tr></table>'\nTable()",
            "%%px --targets 3\nimport sys\nfrom IPython.display import HTML, display\n"
            "display(HTML('<b>bold</b>'))\nprint('printed')\nprint('warned', file=sys.stderr)\n1",
            "%px a = 1",
            "%px --targets 0 print('<i>&')",
        )
        html = self.html(drawn)
        self.assertEqual(html.count('<img src="data:image/png;base64,iVBORw0KGgo'), 2)
        self.assertLess(html.index("[0] Out["), html.index("<img"))
        self.assertLess(html.index("<img"), html.index("[1] Out["))
        self.assertLess(html.index("[1] Out["), html.rindex("<img"))
        self.assertNotIn("plt.plot", html)
        self.assertNotIn("Executing command", self.text(drawn))
        # What is HTML by itself is displayed by itself, below the heading.
        self.assertIn("[2] Out[", self.html(table[:1]))
        self.assertEqual(table[1]["data"]["text/html"], "<table><tr><td>cell</td></tr></table>")
        html = self.html(shown)
        for part in ("<b>bold</b>", " printed</pre>", " warned</pre>", "[3] Err["):
            self.assertIn(part, html)
        self.assertRegex(self.html(silent), r"^[^\[]*\[[\d,-]+\] In ")
        self.assertIn("&lt;i&gt;&amp;", self.html(escaped))
        self.assertIn("[0] Out[", self.text(escaped))

    def test_options(self) -> None:
        """The options of ``%%px`` and ``%pxconfig``, ``%pxresult``, and errors that show the engines' tracebacks."""
        (
            quiet,
            grouped,
            _,
            stored,
            again,
            configured,
            defaults,
            aliased,
            reset,
            helped,
            mistaken,
            hostile,
        ) = self.outputs(
            "%%px\nimport sys",
            "%%px -t 0,1 --group-outputs=type\nprint('out'); print('err', file=sys.stderr)",
            "mec.scatter('rank', range(4), flatten=True)\nevens = [0, 2]",
            "%%px -v --out res\nif rank == 2: print('two'); 1/0\nrank",
            "%pxresult -g order",
            "%pxconfig --targets evens --noblock\n%pxconfig",
            "%%px --block\nrank",
            "%px rank",
            "%pxconfig --reset\nprint(res.engine_ids, res.done(), _.r)",
            "%%px --help",
            "%%px --group-outputs=typ\n1",
            "%%px -t 0\nprint('<script>alert(1)</script>')",
        )
        self.assertIn("<b>[0-3]</b>", self.html(quiet))
        html = self.html(grouped)
        places = [html.index(f"[{n}] {kind}[") for kind in ("Out", "Err") for n in (0, 1)]
        self.assertEqual(places, sorted(places))
        self.assertEqual(stored[0]["text"], "Running on engines 0-3\n")
        for part in (" two</pre>", "[3] Out[", "<details><summary><code>[2:execute]</code>"):
            self.assertIn(part, self.html(stored))
            self.assertIn(part, self.html(again))
        self.assertEqual((stored[-1]["ename"], again[-1]["ename"]), ("CompositeError",) * 2)
        self.assertEqual(configured[0]["text"], "%pxconfig --targets [0, 2] --noblock\n")
        self.assertIn("[0] Out[", self.html(defaults))
        self.assertIn("[2] Out[", self.html(defaults))
        self.assertNotIn("[1] Out[", self.html(defaults))
        self.assertIn("<PendingResult of execute", self.text(aliased))
        self.assertRegex(self.text(reset), r"^\[0, 1, 2, 3\] True <Results List>\n\[0\] In")
        self.assertIn("-g, --group-outputs HOW\n    engine: all output", self.text(helped))
        self.assertIn(
            "UsageError: --group-outputs must be engine, order or type, not typ; did you mean 'type'?",
            self.text(mistaken),
        )
        self.assertIn("&lt;script&gt;", self.html(hostile))
        self.assertNotIn("<script", self.html(hostile))

    def test_cards(self) -> None:
        """Clients, calls, tasks and clusters have cards; a cluster's also acts, and changes while a cell runs."""
        seen = self.outputs(
            "tc = client.TaskClient()\nmec",
            "tc",
            "pr = mec.execute('import time; time.sleep(60)', targets=[1, 2], block=False)\npr",
            "while str(stacks := mec.stacks()).count('--> 1 import time') < 2: pass\npr.abort()\nstacks",
            "tc.run(client.StringTask('a = 1; print(\"<script>\")', pull='a'), block=True)",
            "tc.run(client.StringTask('1/0'), block=True)",
            "tc.queue_status()",
            "cluster = client.Cluster.attach()\ncluster",
            CARD_SESSION,
            "cluster",
        )
        cards = [self.html(each) for each in seen]
        self.assertNotIn("<script", "".join(cards))
        for card, parts in zip(
            cards,
            (
                ("MultiEngineClient", "connected", "4: 0-3"),
                ("TaskClient", "connected"),
                ("PendingResult of execute", "0 of 2 engines done", ">1-2<"),
                ("<details><summary>execute(", "time.sleep(60)"),
                ("succeeded", "<code>1</code>", "&lt;script&gt;"),
                ("failed", "<summary><code>ZeroDivisionError: division by zero</code></summary>"),
                (" failed</span>", ">1</td>"),
                ("Cluster", "4 of 4 engines usable"),
                (),
                ("Cluster", "4 of 4 engines usable"),
            ),
            strict=True,
        ):
            for part in parts:
                self.assertIn(part, card)
        if importlib.util.find_spec("ipywidgets") is None:
            return
        view = "application/vnd.jupyter.widget-view+json"
        self.assertIn(view, seen[7][0]["data"])
        self.assertEqual(
            "".join(each.get("text", "") for each in seen[8]).splitlines(),
            [
                *("started engine 4", "5 of 5", "Really end engine 4?"),
                *("ended engine 4", "4 of 4", "True 0", "True 0"),
            ],
        )
        # It was closed, so the card no longer has buttons.
        self.assertNotIn(view, seen[9][0]["data"])

    def test_errors(self) -> None:
        """A raised error is short; a displayed error has HTML with each engine's traceback."""
        raised, looked_at, after = self.outputs(
            "mec.execute('1/0')",
            "try:\n    mec.execute('1/0', targets=[0, 2])\nexcept client.CompositeError as e:\n    error = e\nerror",
            "mec.queue_status()",
        )
        self.assertEqual(raised[0]["ename"], "CompositeError")
        shown = self.text(raised)
        self.assertIn("----> 1 mec.execute('1/0')", shown)
        self.assertTrue(shown.endswith("[3:execute]: ZeroDivisionError: division by zero"), shown)
        self.assertNotIn("pendingresult", shown)
        html = self.html(looked_at)
        self.assertIn("<details><summary><code>[2:execute]</code></summary>", html)
        self.assertIn("----&gt; 1 1/0", html)
        self.assertIn(">pending</th>", self.html(after))

    def test_autopx(self) -> None:
        """Loops, await, cell magics, syntax errors and blocks."""
        on, loop, awaited, magic, wrong, own, off, here, block = self.outputs(
            "%autopx",
            "total = 0\nfor i in range(4): total += i\ntotal",
            "import asyncio\nawait asyncio.sleep(0, 'awaited')",
            "%%bash\necho from bash",
            "x = = 1",
            "%px total",
            "%autopx",
            "'total' in globals()",
            "with mec:\n    client.remote()\n    total += 1\n    total\nmec.get_result()",
        )
        self.assertIn("Auto Parallel Enabled\nType %autopx to disable", self.text(on))
        self.assertRegex(self.text(loop), r"\[3\] Out\[\d+\]: 6")
        self.assertRegex(self.text(awaited), r"\[3\] Out\[\d+\]: 'awaited'")
        self.assertRegex(self.text(magic), r"\[3\] Out\[\d+\]: from bash")
        self.assertEqual(wrong[-1]["ename"], "CompositeError")
        self.assertIn("SyntaxError: invalid syntax (line 1)", self.text(wrong))
        self.assertIn("Executing command on Controller", self.text(own))
        self.assertIn("Auto Parallel Disabled", self.text(off))
        self.assertEqual(self.text(here), "False")
        self.assertRegex(self.text(block), r"\[3\] Out\[\d+\]: 7")

    def test_waiting(self) -> None:
        """The progress bar is updated in place, and live output is not shown twice."""
        bar, live = self.outputs(
            "pr = mec.execute('import time; time.sleep(0.5)', block=False)\npr.wait_interactive()",
            "%px --targets 0 print('early'); time.sleep(1.3); print('late')",
        )
        self.assertEqual(len(bar), 2)
        self.assertRegex(self.html(bar), r"execute: 100%\|█{20}\| 4/4 engines \[\d\d:\d\d")
        shown = self.text(live)
        self.assertEqual((shown.count("[0] early\n"), shown.count("[0] late\n")), (1, 1), shown)
        self.assertNotIn("early</pre>", self.html(live))

    def test_bars_of_engines(self) -> None:
        """Widgets of engines are shown and move; displays are updated; of bars as text, the last state stays."""
        _, widget, display, text = self.outputs(
            "%px import time, ipywidgets, IPython.display as d, tqdm",
            "%%px --targets 0,1\nbar = ipywidgets.IntProgress(max=60)\ndisplay(bar)\n"
            "for bar.value in range(61): time.sleep(0.06)",
            "%%px --targets 0,1\ndisplay(d.HTML('<i>first</i>'))\n"
            "h = display(d.HTML('<b>0</b>'), display_id='x')\n"
            "for i in range(61): time.sleep(0.06); h.update(d.HTML(f'<b>{i}</b>'))",
            "%%px --targets 0,1\nfor i in tqdm.tqdm(range(30)): time.sleep(0.05)",
        )
        views = [
            each["data"][WIDGET_VIEW]["model_id"]
            for each in widget
            if WIDGET_VIEW in each.get("data", {})
        ]
        states = self.notebook.metadata["widgets"][WIDGET_STATE]["state"]
        self.assertEqual([states[each]["state"]["value"] for each in views], [60, 60])
        shown = [each for each in display if each.get("data", {}).get("text/html") == "<b>60</b>"]
        self.assertEqual(len(shown), 2)
        html = self.html(display)
        self.assertEqual([html.count("<b>60</b>"), html.count("<i>first</i>")], [2, 2])
        bars = re.findall(r"^\[(\d)\] Err\[\d+\]: 100%\|█+\| 30/30", self.text(text), re.M)
        self.assertEqual(sorted(bars), ["0", "1"])
        self.align_engines()


WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


class MessageTests(InNotebook):
    """Tests that need a front end that sends its own messages."""

    engines = 2

    def setUp(self) -> None:
        super().setUp()
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=self.folder, extra_arguments=QUIET)
        self.addCleanup(self.manager.shutdown_kernel, now=True)
        self.front = self.manager.blocking_client()
        self.front.start_channels()
        self.addCleanup(self.front.stop_channels)
        self.front.wait_for_ready(timeout=60)
        self.run_cell(
            "from ipython1.kernel import client; mec = client.MultiEngineClient(); mec.activate()"
        )

    def collect(self, request: str) -> str:
        """All text output of a request, until its cell is done."""
        parts = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                message = self.front.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if content.get("execution_state") == "idle":
                return ESCAPES.sub("", "\n".join(parts))
            parts.append(content.get("text", ""))
            parts.append(content.get("data", {}).get("text/plain", ""))
            parts += content.get("traceback", [])
        raise AssertionError(f"the cell did not end; so far: {parts}")

    def run_cell(self, source: str, **options: Any) -> str:
        return self.collect(self.front.execute(source, **options))

    def test_requests_of_the_front_end_stay_here(self) -> None:
        """While autopx is on, requests that a front end makes by itself are not sent to the engines."""
        self.run_cell("%autopx")
        self.run_cell("silently = 1", silent=True)
        self.run_cell("unrecorded = 2", store_history=False)
        self.run_cell("mine = 3")
        self.run_cell("%autopx")
        self.assertIn(
            "(True, True, False)",
            self.run_cell("tuple(n in globals() for n in ('silently', 'unrecorded', 'mine'))"),
        )
        shown = self.run_cell("mec.keys(targets=0)[0]")
        self.assertIn("'mine'", shown)
        self.assertNotIn("silently", shown)

    def test_interrupt(self) -> None:
        """Interrupting the kernel returns control to the notebook, and shows what goes on."""
        request = self.front.execute("%px import time; print('going on'); time.sleep(600)")
        shown = ""
        while "[1] going on" not in shown:
            message = self.front.get_iopub_msg(timeout=60)
            shown += ESCAPES.sub("", message["content"].get("text", ""))
        begun = time.monotonic()
        self.manager.interrupt_kernel()
        shown = self.collect(request)
        self.assertLess(time.monotonic() - begun, 3.0)
        self.assertIn(
            "KeyboardInterrupt: execute is still running on engines 0-1. mec.pending[-1] is this call",
            shown,
        )
        self.assertIn("was interrupted", self.run_cell("mec.interrupt()"))
        self.assertIn("[]", self.run_cell("mec.pending"))

    def test_local_code_that_awaits(self) -> None:
        """A block cannot run inside a magic in a notebook; an error says so, and nothing runs on the engines."""
        shown = self.run_cell("%px --local await __import__('asyncio').sleep(0)")
        self.assertIn("ClientError: a magic cannot run code with await in a notebook", shown)
