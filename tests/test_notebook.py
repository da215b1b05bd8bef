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
            "%%px\nplt.plot(range(3))\nprint('drawn')",
            "%%px\nfrom IPython.display import HTML\nHTML('<b>bold</b> words')",
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
        self.assertLess(html.index("[0] In ["), html.index("<img"))
        self.assertLess(html.index("[1] In ["), html.rindex("<img"))
        self.assertLess(html.index("<img"), html.index("[1] In ["))
        self.assertEqual(drawn[0]["text"], "Executing command on Controller\n")
        self.assertIn("<table><tr><td>cell</td></tr></table>", self.html(table))
        html = self.html(shown)
        for part in ("<b>bold</b>", ">printed</pre>", ">warned</pre>", "[3] Err["):
            self.assertIn(part, html)
        self.assertRegex(self.html(silent), r"^[^\[]*\[\d\] In ")
        self.assertIn("&lt;i&gt;&amp;", self.html(escaped))
        self.assertIn("[0] Out[", self.text(escaped))

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
        self.assertIn('<th style="text-align: left">pending</th>', self.html(after))

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
        self.assertIn(f"execute: 100%|{'█' * 20}| 4/4 engines [00:00", self.html(bar))
        shown = self.text(live)
        self.assertEqual((shown.count("[0] early\n"), shown.count("[0] late\n")), (1, 1), shown)
        self.assertNotIn("early</pre>", self.html(live))

    def test_bars_of_engines(self) -> None:
        """Widgets of engines are shown and move; displays are updated; of bars as text, the last state stays."""
        _, widget, display, text = self.outputs(
            "%px import time, ipywidgets, IPython.display as d, tqdm",
            "%%px --targets 0,1\nbar = ipywidgets.IntProgress(max=60)\ndisplay(bar)\n"
            "for bar.value in range(61): time.sleep(0.06)",
            "%%px --targets 0,1\nh = display(d.HTML('<b>0</b>'), display_id='x')\n"
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
        result = display[-1]["data"]["text/html"]
        self.assertNotIn("<b>60</b>", result)
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
