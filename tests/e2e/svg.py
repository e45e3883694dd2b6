"""The few shapes that the tests' charts are drawn with, as SVG text. A chart's style sheet gives classes their looks."""

import html
import math


def rect(kind, x, y, width, height, title=""):
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}"'
    if not title:
        return f'<rect class="{kind}" {place}/>'
    return f'<rect class="{kind}" {place}><title>{html.escape(title)}</title></rect>'


def line(kind, points):
    if len(points) == 1:
        return f'<circle class="dot {kind}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2"/>'
    return f'<polyline class="line {kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def label(x, y, said, anchor):
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{said}</text>'


def nice_step(rough):
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10 ** math.floor(math.log10(max(rough, 1e-9)))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
