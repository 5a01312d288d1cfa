"""Numbers and hostile text as a page shows them.

Values and strings flow in, printable one-line strings flow out. HTML escaping is the template's and the script's
business; this makes what HTML cannot make harmless (control, format and surrogate characters) visible first.
"""

MINUS = "\u2212"


def visible(text: str) -> str:
    """The text with every character that would not show, or would turn the line around, written as `\\u{HEX}`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):X}}}" for c in text)


def one_line(text: str) -> str:
    """As `visible`, with line ends as spaces: for sentences, never for tokens."""
    return visible(" ".join(text.splitlines()) if "\n" in text or "\r" in text else text)


def fixed(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with a true minus sign, or a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "+" if sign else "")
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """A positive number of unknown size in three digits, such as `0.0213` or `1.2e−5`."""
    return f"{value:.3g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """`[low, high]`, or nothing where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def share(value: float | None) -> str:
    """A density as a percentage, in powers of ten below a hundredth of a per cent."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if value >= 0.0001:
        return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{MINUS}{abs(int(exponent))}"


def words(name: str) -> str:
    """A typed reason as words: `constant_prediction` is `constant prediction`."""
    return visible(name).replace("_", " ")


def per_cent(n: int, of: int) -> str:
    """A share of a whole as a rounded percentage."""
    return f"{100 * n / of:.0f} %" if of else "–"
