"""Fetch and parse the pages of a web site, breadth-first, with a local server as the site.

Start engines with ``ipcluster -n 4``, then run ``python crawl.py [FIGURE]``.
"""

import math
import random
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

from ipython1.kernel import client

PAGES, LINKS, DEAD_LINKS = 200, 3, 10
SLOWEST = 0.05  # seconds that the server takes for a page, at most


def make_site(rng):
    """The site: for each page, the pages that it links to. Some of these do not exist."""
    links = {page: rng.sample(range(PAGES), LINKS) for page in range(PAGES)}
    for page in rng.sample(range(PAGES), DEAD_LINKS):
        links[page].append(PAGES + page)
    return links


class Site(BaseHTTPRequestHandler):
    links = make_site(random.Random(9))

    def do_GET(self):
        page = int(self.path.removeprefix("/page/"))
        time.sleep(SLOWEST * (page * 37 % 100) / 100)  # a real server is slow, too
        if page not in self.links:
            return self.send_error(404)
        anchors = " ".join(f'<a href="/page/{to}">page {to}</a>' for to in self.links[page])
        html = f"<html><title>Page {page}</title><body>{anchors}</body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(html)))
        self.end_headers()
        return self.wfile.write(html)

    def log_message(self, *args):
        """Print nothing."""


def fetch(url):
    """Runs on an engine: the URLs of the page's links, or None if there is no page; and the time it took."""
    from html.parser import HTMLParser
    from urllib.error import HTTPError
    from urllib.parse import urljoin
    from urllib.request import ProxyHandler, build_opener

    found = []

    class LinkParser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag == "a":
                found.append(urljoin(url, dict(attributes)["href"]))

    began = time.monotonic()
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            LinkParser().feed(answer.read().decode())
    except HTTPError:
        return None, time.monotonic() - began
    return found, time.monotonic() - began


def crawl(tc, start):
    """Fetch what can be reached: the links of each URL, where each was found first, its depth; the times."""
    links, origins, depths, times = {}, {}, {start: 0}, []
    frontier = [start]
    while frontier:
        further = {}  # a dict keeps the order, and each URL once
        # The pages of one depth are independent: the engines share them.
        for url, (found, seconds) in zip(frontier, tc.map(fetch, frontier), strict=True):
            links[url] = found
            times.append(seconds)
            for to in found or ():
                if to not in depths and to not in further:
                    further[to] = depths[url] + 1
                    origins[to] = url
        depths.update(further)
        frontier = list(further)
    return links, origins, depths, times


def plot_site(axes, links, origins, depths):
    """Each depth is a circle, and each URL is joined to the page where it was found first."""
    counts, placed, places = Counter(depths.values()), Counter(), {}
    for url, depth in depths.items():
        angle = 2 * math.pi * placed[depth] / counts[depth]
        placed[depth] += 1
        places[url] = depth * math.cos(angle), depth * math.sin(angle)
    lines = [(places[origin], places[url]) for url, origin in origins.items()]
    axes.add_collection(
        LineCollection(lines, colors="lightgray", linewidths=0.8, zorder=0, antialiaseds=False)
    )
    axes.scatter(*zip(*places.values(), strict=True), c=list(depths.values()), s=12)
    dead = [places[url] for url, found in links.items() if found is None]
    axes.scatter(*zip(*dead, strict=True), marker="x", c="crimson", label="dead link")
    axes.legend(loc="lower right", fontsize=8)
    axes.set(title=f"The site: up to {max(counts)} clicks from the start", aspect="equal")
    axes.axis("off")


def main(figure="crawl.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    with client.TaskClient() as tc, ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever).start()
        began = time.monotonic()
        try:
            start = f"http://127.0.0.1:{server.server_port}/page/0"
            links, origins, depths, times = crawl(tc, start)
        finally:
            server.shutdown()
        took = time.monotonic() - began

    dead = [url for url, found in links.items() if found is None]
    print(f"{len(links) - len(dead)} pages, {len(dead)} dead links")
    print("URLs by depth:", list(Counter(depths.values()).values()))

    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 4), dpi=120, layout="constrained")
    plot_site(left, links, origins, depths)
    right.hist([1000 * seconds for seconds in times], bins=20, color="tab:blue")
    right.set(xlabel="time to fetch and parse (ms)", ylabel="pages")
    right.set_title(f"{sum(times):.1f} s of fetching in {took:.1f} s")
    fig.savefig(figure)


if __name__ == "__main__":
    main(*sys.argv[1:])
