"""Output of Python, C code and programs; floods, live reading, and the process's own streams."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time

from ipython1.core import capture as capture_module
from ipython1.core import lowlevel
from ipython1.core.tests.support import PATIENCE, CaptureCase, beside


class OutputTests(CaptureCase):
    use_memfd = True

    def setUp(self) -> None:
        self.capture = self.open_capture(use_memfd=self.use_memfd, max_bytes=1 << 20)

    def test_python_c_and_programs_in_order(self) -> None:
        print("from python")
        ctypes.CDLL(None).printf(b"from C\n")
        ctypes.CDLL(None).fflush(None)
        os.write(1, b"from a descriptor\n")
        subprocess.run(["sh", "-c", "echo from a program; echo its error >&2"], check=True)
        print("an error", file=sys.stderr)
        self.assertEqual(
            self.capture.finish(),
            (
                "from python\nfrom C\nfrom a descriptor\nfrom a program\n",
                "its error\nan error\n",
            ),
        )

    def test_unfinished_lines_and_c_buffers_are_not_lost(self) -> None:
        ctypes.CDLL(None).printf(b"no newline")
        self.assertEqual(self.capture.take(), ("no newline", ""))
        print("nor here", end="")
        self.assertEqual(self.capture.take(), ("nor here", ""))
        self.assertEqual(self.capture.take(), ("", ""))

    def test_each_command_gets_its_own(self) -> None:
        for number in range(3):
            self.capture.begin()
            print(number)
            self.assertEqual(self.capture.finish(), (f"{number}\n", ""))

    def test_of_bars_the_last_state_is_kept_and_of_everything_else_all(self) -> None:
        os.write(1, b"dos\r\n\ttab  \n")
        for number in range(1000):
            os.write(1, f"\r{number} of 1000".encode())
            os.write(2, f"\rerr {number}".encode())
        os.write(1, b"\n  end ")
        self.assertEqual(self.capture.finish(), ("dos\r\n\ttab  \n999 of 1000\n  end ", "err 999"))

    def test_bytes_that_are_no_text(self) -> None:
        os.write(1, b"caf\xe9 \xf0\x9f\n")
        print("\udc80 na\u00efve")
        out, _ = self.capture.finish()
        self.assertEqual(out, "caf\ufffd \ufffd\n\\udc80 na\u00efve\n")

    def test_flood_keeps_beginning_and_end(self) -> None:
        limit = 1 << 20
        for number in range(60_000):
            os.write(1, f"{number:058d}-\n".encode())
        out, _ = self.capture.finish()
        self.assertLess(len(out), limit + 100)
        self.assertTrue(out.startswith(f"{0:058d}-\n"))
        self.assertTrue(out.endswith(f"{59_999:058d}-\n"))
        cut = 60_000 * 60 - limit
        self.assertEqual(out.count(f"\n[... {cut} bytes of output were cut here ...]\n"), 1)
        self.assertEqual(out.index("[..."), limit // 4 + 1)

    def test_cut_in_the_middle_of_characters(self) -> None:
        os.write(1, "\N{SNOWMAN}".encode() * 500_000)
        out, _ = self.capture.finish()
        self.assertNotIn("\ufffd", out)
        self.assertEqual(set(out), set("\N{SNOWMAN}" + capture_module.cut_mark(451_424)))

    def test_reading_while_it_comes(self) -> None:
        print("one")
        self.assertEqual(self.capture.peek(), ("one\n", ""))
        self.assertEqual(self.capture.peek(), ("", ""))
        os.write(1, b"\xe2\x98")  # two thirds of a character
        self.assertEqual(self.capture.peek(), ("", ""))
        os.write(1, b"\x83 and")
        os.write(2, b"err")
        self.assertEqual(self.capture.peek(), ("\N{SNOWMAN} and", "err"))
        self.assertEqual(self.capture.finish(), ("one\n\N{SNOWMAN} and", "err"))
        self.assertEqual(self.capture.peek(), ("", ""))

    def test_reading_from_another_thread_while_this_one_prints(self) -> None:
        pieces: list[str] = []
        done = False

        def read() -> None:
            while not done:
                pieces.append(self.capture.peek()[0])
                time.sleep(0.001)
            pieces.append(self.capture.peek()[0])

        with beside(read):
            for number in range(20_000):
                print(number)
            done = True
        expected = "".join(f"{number}\n" for number in range(20_000))
        self.assertEqual("".join(pieces), expected)
        self.assertEqual(self.capture.finish()[0], expected)

    def test_peek_is_bounded(self) -> None:
        os.write(1, b"a" * 900_000 + b"z")
        out, _ = self.capture.peek()
        self.assertLess(len(out), capture_module.PEEK_BYTES + 100)
        self.assertIn("bytes of output were cut here", out)
        self.assertTrue(out.endswith("az"))

    def test_output_of_a_program_that_outlives_the_command(self) -> None:
        read_end, write_end = os.pipe()
        program = subprocess.Popen(["sh", "-c", "read go; echo late"], stdin=read_end)
        os.close(read_end)
        self.addCleanup(program.wait)
        self.assertEqual(self.capture.finish(), ("", ""))
        os.write(write_end, b"\n")
        os.close(write_end)
        program.wait(PATIENCE)
        self.assertEqual(self.capture.finish(), ("late\n", ""))

    def test_closing_the_streams_silences_nothing(self) -> None:
        sys.stdout.close()
        sys.stderr.close()
        self.capture.take()
        print("still here")
        print("me too", file=sys.stderr)
        self.assertEqual(self.capture.take(), ("still here\n", "me too\n"))
        self.assertIs(sys.stdout, sys.__stdout__)

    def test_closing_the_descriptors_silences_nothing(self) -> None:
        """Only the command that closed them gets an error; its own and later output is captured."""
        os.close(1)
        os.close(2)
        with self.assertRaises(OSError):
            print("told")
        with self.assertRaises(OSError):
            print("me too", file=sys.stderr)
        self.assertEqual(self.capture.take(), ("told\n", "me too\n"))
        print("still here")
        os.close(2)
        sys.stderr.close()
        self.capture.take()
        print("and here", file=sys.stderr)
        self.assertEqual(self.capture.take(), ("", "and here\n"))

    def test_deleting_the_streams_harms_no_later_command(self) -> None:
        stdout, stderr = sys.stdout, sys.stderr
        del sys.stdout, sys.stderr
        self.capture.take()
        self.assertIs(sys.stdout, stdout)
        self.assertIs(sys.stderr, stderr)

    def test_a_stream_whose_flush_ends_the_program(self) -> None:
        class Ending:
            def write(self, text: str) -> None: ...

            def flush(self) -> None:
                raise SystemExit

        sys.stdout = Ending()  # type: ignore[assignment]
        self.assertEqual(self.capture.take(), ("", ""))
        self.assertEqual(self.capture.peek(), ("", ""))

    def test_a_stream_that_raises_at_every_touch_is_replaced(self) -> None:
        class Raising:
            def __getattribute__(self, name: str) -> object:
                raise SystemExit

        stdout = sys.stdout
        sys.stdout = Raising()  # type: ignore[assignment]
        self.assertEqual(self.capture.peek(), ("", ""))
        self.assertIs(sys.stdout, stdout)

    def test_a_stream_put_in_place_of_ours(self) -> None:
        mine = open(os.dup(1), "w", buffering=1 << 16)  # noqa: SIM115
        self.addCleanup(mine.close)
        sys.stdout = mine
        print("through another buffer")
        self.assertEqual(self.capture.take(), ("through another buffer\n", ""))
        mine.close()
        self.capture.take()
        print("and back")
        self.assertEqual(self.capture.take(), ("and back\n", ""))

    def test_standard_input_is_empty(self) -> None:
        self.assertRaises(EOFError, input)
        self.assertEqual(subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout, b"")

    def test_memory_is_given_back(self) -> None:
        file = self.capture._out.file
        for _ in range(20):
            os.write(1, b"x" * 2_000_000)
            self.capture.peek()
            self.assertLess(os.fstat(file).st_blocks * 512, 6_000_000)
        self.capture.finish()
        self.assertLess(os.fstat(file).st_blocks * 512, 100_000)


class TemporaryFileTests(OutputTests):
    """The same on systems without in-memory files."""

    use_memfd = False


class NoHolesTests(CaptureCase):
    """On systems that cannot punch holes, the file is truncated between commands."""

    def test_file_stays_small(self) -> None:
        self.patch(capture_module, "punch_hole", lambda fd, start, stop: False)
        self.patch(capture_module, "_TRUNCATE_ABOVE", 3_000_000)
        self.patch(capture_module, "end_of_file", lowlevel.end_of_file_portably)
        capture = self.open_capture(use_memfd=False)
        for _ in range(5):
            os.write(1, b"x" * 2_000_000)
            self.assertEqual(len(capture.finish()[0]), 2_000_000)
            self.assertLess(os.fstat(capture._out.file).st_size, 5_000_000)
        print("after")
        self.assertEqual(capture.peek(), ("after\n", ""))
        self.assertEqual(capture.finish(), ("after\n", ""))


class RestoringTests(CaptureCase):
    def test_the_process_gets_its_streams_back(self) -> None:
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        kept = os.dup(1)
        streams = sys.stdin, sys.stdout, sys.stderr
        os.dup2(write_end, 1)
        os.close(write_end)
        try:
            capture = self.open_capture()
            print("captured")
            os.write(capture.original_stdout, b"to the original\n")
            capture.finish()
            capture.close()
            capture.close()
            os.write(1, b"after\n")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        self.assertEqual(os.read(read_end, 1000), b"to the original\nafter\n")
        self.assertEqual((sys.stdin, sys.stdout, sys.stderr), streams)
        self.assertEqual(capture.peek(), ("", ""))
        self.assertEqual(capture.finish(), ("", ""))

    def test_no_descriptor_is_left(self) -> None:
        before = set(os.listdir("/proc/self/fd"))
        self.open_capture().close()
        self.assertEqual(set(os.listdir("/proc/self/fd")), before)

    def test_started_programs_inherit_only_the_streams(self) -> None:
        capture = self.open_capture()
        subprocess.run(["sh", "-c", "ls /proc/self/fd | wc -l"], check=True)
        count = int(capture.finish()[0])
        self.assertLessEqual(count, 4)  # three streams, and the directory that is listed

    def test_limit_must_make_sense(self) -> None:
        error = self.assertRaises(ValueError, self.open_capture, max_bytes=10)
        self.assertIn("at least 1024", str(error))
