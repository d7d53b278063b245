"""What any page of ours must hold, as scripts for Chromium: contrast, and nothing sticks out."""

from __future__ import annotations

POOR_CONTRAST = """() => {
    const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => [r, g, b]
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = rgba(getComputedStyle(node).backgroundColor);
            if (colour[3] === undefined || colour[3] === 1) return colour;
        }
    };
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !node.checkVisibility()) continue;
        const [a, b] = [luminance(rgba(getComputedStyle(node).color)), luminance(ground(node))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push(`${node.textContent}: ${ratio.toFixed(2)}`);
    }
    return poor;
}"""
"""Text elements whose contrast with what is behind them is below WCAG's 4.5, as "text: ratio"."""

TOO_WIDE = """() => [
    ...[...document.querySelectorAll("body *")]
        .filter((node) => node.checkVisibility({ visibilityProperty: true }))
        .filter((node) => !node.closest(".scrolls") && !node.closest("pre, table"))
        .filter((node) => node.getBoundingClientRect().right > innerWidth + 0.5)
        .map((node) => node.outerHTML.slice(0, 80)),
    ...(document.scrollingElement.scrollWidth > innerWidth ? ["the page scrolls"] : []),
    ...[...document.querySelectorAll("#log")]
        .filter((log) => log.scrollWidth > log.clientWidth)
        .map(() => "the conversation scrolls"),
]"""
"""Elements that stick out of the window at the right, and what scrolls sideways."""

FOCUSED = """() => {
    const node = document.activeElement;
    const shown = (n) => getComputedStyle(n).outlineStyle !== "none";
    const seen = shown(node) || shown(node.closest(".field") ?? node);
    const name = node.id || node.getAttribute("aria-label") || node.textContent;
    return (seen ? "" : "unseen: ") + name.trim();
}"""
"""The id, or else the name, of what has the focus; it has to be seen that it has."""
