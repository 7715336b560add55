"""Numbers in English words, the American way: hyphens in twenty-one, no commas, no "and"."""

from __future__ import annotations

import re

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """Say a whole number: 1234 is "one thousand two hundred thirty-four"; beyond 10**18 digit by digit."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number >= 1000 ** len(_SCALES):
        return digits(str(number))
    if number < 1000:
        return _below_thousand(number)
    words, scale = [], 0
    while number:
        number, group = divmod(number, 1000)
        if group:
            words.append(f"{_below_thousand(group)} {_SCALES[scale]}".rstrip())
        scale += 1
    return " ".join(reversed(words))


def _below_thousand(number: int) -> str:
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return f"{_TENS[tens]}-{_ONES[ones]}" if ones else _TENS[tens]
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred {_below_thousand(rest)}" if rest else f"{_ONES[hundreds]} hundred"


def ordinal(number: int) -> str:
    """Say a place in an order: 21 is "twenty-first"."""
    head, last = re.fullmatch(r"(.*[ -])?(\w+)", cardinal(number)).groups(default="")
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return head + last


def digits(figures: str) -> str:
    """Say digit by digit: "007" is "zero zero seven"."""
    return " ".join(_ONES[int(figure)] for figure in figures)


def number(figures: str) -> str:
    """Say a number as it is written: "1,234.50" is "one thousand two hundred thirty-four point five zero"."""
    whole, point, decimals = figures.replace(",", "").partition(".")
    if len(whole) > 1 and whole.startswith("0") and not point:
        return digits(whole)
    words = cardinal(int(whole)) if whole else ""
    return f"{words} point {digits(decimals)}".strip() if point else words


def year(number: int) -> str:
    """Say a year: 1999 is "nineteen ninety-nine", 1905 "nineteen oh five", 2005 "two thousand five"."""
    century, rest = divmod(number, 100)
    if number < 1000 or number > 9999 or 2000 <= number < 2010 or century % 10 == 0 and rest < 10:
        return cardinal(number)
    if not rest:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def plural(words: str) -> str:
    """The plural of a number's words: "ninety" is "nineties", "nineteen hundred" "nineteen hundreds"."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def roman(numeral: str) -> int | None:
    """Value of a roman numeral, None where the letters are none: "XIV" is 14, "IC" None."""
    values = [_ROMAN[letter] for letter in numeral]
    total = sum(-v if v < later else v for v, later in zip(values, [*values[1:], 0], strict=True))
    return total if _as_roman(total) == numeral else None


def _as_roman(number: int) -> str:
    parts = []
    for value, letters in (
        (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
        (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
    ):
        count, number = divmod(number, value)
        parts.append(letters * count)
    return "".join(parts)
