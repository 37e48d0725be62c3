"""How a page looks to its reader, asked of a headless Chromium: no screenshot that nobody sees."""

from __future__ import annotations

import html
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import packages

PATIENCE_SECONDS = 90
# Width and height in CSS pixels.
SCREEN, PHONE = (1200, 900), (390, 844)
SCHEMES = ("light", "dark")

# In a frame a page sees the frame's width and color-scheme as its own.
_OUTER = """<!doctype html><meta charset="utf-8">{frames}
<script type="text/plain" id="seen"></script>
<script>
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = channels => {{
  const [r, g, b] = channels.map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}};
const over = ([r, g, b, a = 1], under) =>
  [r, g, b].map((c, index) => a * c + (1 - a) * under[index]);
const behind = (view, node) => {{
  if (!node) return [255, 255, 255];
  const colour = parse(view.getComputedStyle(node).backgroundColor);
  return colour[3] === 0 ? behind(view, node.parentElement)
    : over(colour, behind(view, node.parentElement));
}};
const texts = frame => {{
  const view = frame.contentWindow, found = [];
  for (const node of frame.contentDocument.body.querySelectorAll("*")) {{
    const own = [...node.childNodes].filter(each => each.nodeType === 3 && each.data.trim());
    if (!own.length || !node.getClientRects().length) continue;
    const style = view.getComputedStyle(node), drawing = node.ownerSVGElement;
    const below = behind(view, node);
    const ink = over(parse(drawing ? style.fill : style.color), below);
    const [high, low] = [light(ink), light(below)].sort((a, b) => b - a);
    const box = drawing && drawing.viewBox.baseVal;
    const scale = box && box.width ? drawing.getBoundingClientRect().width / box.width : 1;
    found.push({{
      text: own[0].data.trim().slice(0, 40), size: parseFloat(style.fontSize) * scale,
      contrast: (high + 0.05) / (low + 0.05),
    }});
  }}
  return found;
}};
window.onload = () => {{
  const seen = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument.documentElement;
    return {{
      width: page.clientWidth, needed: page.scrollWidth, texts: texts(frame),
      paper: frame.contentWindow.getComputedStyle(frame.contentDocument.body).backgroundColor,
    }};
  }});
  document.getElementById("seen").textContent = JSON.stringify(seen);
}};
</script>"""


@dataclass(frozen=True)
class Text:
    """A piece of a page: its first words, size in CSS pixels, contrast to what is behind it."""

    words: str
    size: float
    contrast: float


@dataclass(frozen=True)
class Look:
    """A page at one size and scheme; `needed` is the width without sideways scrolling."""

    width: int
    scheme: str
    needed: int
    paper: str
    texts: list[Text]


def looks(page: str, folder: Path) -> list[Look]:
    """The page on a screen and on a phone, in light and in dark."""
    views = [(size, scheme) for size in (SCREEN, PHONE) for scheme in SCHEMES]
    frames = "".join(
        f'<iframe style="width:{width}px;height:{height}px;border:0;color-scheme:{scheme}" '
        f'srcdoc="{html.escape(page)}"></iframe>'
        for (width, height), scheme in views
    )
    outer = folder / "looks.html"
    outer.write_text(_OUTER.format(frames=frames), encoding="utf-8")
    command = [
        *(str(packages.browser()), "--headless", "--no-sandbox", "--disable-gpu"),
        *(f"--user-data-dir={folder / 'browser'}", "--hide-scrollbars"),
        *("--virtual-time-budget=10000", "--dump-dom", outer.as_uri()),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    told = re.search(r'id="seen">(.*?)</script>', done.stdout, re.DOTALL)
    assert told, done.stderr[-2000:]
    return [
        _look(size[0], scheme, seen)
        for (size, scheme), seen in zip(views, json.loads(told[1]), strict=True)
    ]


def _look(width: int, scheme: str, seen: dict[str, Any]) -> Look:
    assert seen["width"] == width, seen["width"]
    texts = [Text(each["text"], each["size"], each["contrast"]) for each in seen["texts"]]
    return Look(width, scheme, seen["needed"], seen["paper"], texts)
