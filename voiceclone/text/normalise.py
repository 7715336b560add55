"""English text as it is said: figures, dates, money, units, signs and abbreviations written out in words."""

from __future__ import annotations

import re
from collections.abc import Callable

from .characters import fold
from .numbers import cardinal, digits, number, ordinal, plural, roman, year


def _alternatives(words: dict[str, str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_GAP = "\x1f"  # white space of the rules' own: it keeps words apart and goes where there is nothing to keep apart
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<!\d)\.\d+"
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)
_SHORT_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_MONTH = rf"(?:{'|'.join(_MONTHS)}|(?:{_SHORT_MONTHS})\.?)(?![a-z])"
_DAY = r"(3[01]|[12]\d|0?[1-9])"
_MAGNITUDES = {"k": "thousand", "m": "million", "bn": "billion", "b": "billion", "tn": "trillion"}
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "p"), "¥": ("yen", "")}
# Said only after a number; the plural is regular but for those with their own.
_UNITS = {
    "km/h": "kilometer per hour", "m/s": "meter per second", "mph": "mile per hour", "kWh": "kilowatt hour",
    "km": "kilometer", "cm": "centimeter", "mm": "millimeter", "µm": "micrometer", "nm": "nanometer", "m": "meter",
    "kg": "kilogram", "mg": "milligram", "g": "gram", "lbs": "pound", "lb": "pound", "oz": "ounce", "ft": "foot",
    "yd": "yard", "mi": "mile", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "Hz": "hertz",
    "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "kW": "kilowatt",
    "MW": "megawatt", "W": "watt", "V": "volt", "dB": "decibel", "mL": "milliliter", "ml": "milliliter",
    "L": "liter", "ms": "millisecond", "µs": "microsecond", "s": "second", "sec": "second", "min": "minute",
    "hrs": "hour", "hr": "hour", "h": "hour", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
    "%": "percent",
}
_PLURALS = {"foot": "feet", "percent": "percent", "hertz": "hertz", "kilohertz": "kilohertz",
            "megahertz": "megahertz", "gigahertz": "gigahertz"}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_TITLES = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Dr": "doctor", "Drs": "doctors", "Prof": "professor",
    "Gen": "general", "Col": "colonel", "Lt": "lieutenant", "Sgt": "sergeant", "Capt": "captain", "Rev": "reverend",
    "Gov": "governor", "Sen": "senator", "Rep": "representative", "Hon": "honorable", "Maj": "major", "St": "saint",
    "Mt": "mount", "Ft": "fort", "Pres": "president",
}
_SUFFIXES = {"St": "street", "Dr": "drive", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane"}
# Those that may end a sentence: their dot counts as its end before a capital and at the end of the text.
_ABBREVIATIONS = {
    "Jr": "junior", "Sr": "senior", "Inc": "incorporated", "Ltd": "limited", "Co": "company", "Corp": "corporation",
    "Esq": "esquire", "etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department",
    "Dept": "department", "est": "established", "misc": "miscellaneous",
    "Univ": "university", "Ave": "avenue", "Blvd": "boulevard", "Rd": "road",
}
_NUMBERED = {"No": "number", "no": "number", "Fig": "figure", "fig": "figure", "Vol": "volume", "vol": "volume",
             "Ch": "chapter", "ch": "chapter", "p": "page", "pp": "pages", "Sec": "section", "Eq": "equation",
             "ext": "extension"}
_DAYS = {"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
         "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday"}
_MONARCHS = (
    "Henry|Edward|George|Charles|James|William|Richard|Elizabeth|Louis|Philip|Frederick|Nicholas|Alexander|"
    "Catherine|Peter|Paul|John|Benedict|Pius|Leo|Gregory|Napoleon|Ivan|Otto|Francis"
)
_SIGNS = {
    "&": "and", "@": "at", "%": "percent", "+": "plus", "=": "equals", "/": "slash", "#": "hash", "<": "less than",
    ">": "greater than", "~": "", "°": "degrees", "$": "dollars", "€": "euros", "£": "pounds", "¥": "yen",
    "¢": "cents", "µ": "micro",
}
_CAPITALS = {"AI", "ID", "IT", "PE", "UN", "US"}  # read as letters although in small letters they are words
_SAME_SENTENCE = rf"{_alternatives(_DAYS)}|[ECMP][SD]?T\b|GMT|UTC"  # may follow "8 a.m." without a pause
_SHORTENED = r"(?<![A-Za-z'])'(?=(?:[Tt]is|[Tt]was|em|cause|til|bout|round)\b)"


def _date(month: int, day: str, written_year: str | None = None) -> str:
    said = f"{_MONTHS[month - 1]} {ordinal(int(day))}"
    return f"{said}, {year(int(written_year))}" if written_year else said


def _month(name: str) -> int:
    return next(k for k, month in enumerate(_MONTHS, 1) if month.startswith(name[:3]))


def _time(match: re.Match) -> str:
    hour, minute, second, half = match.groups()
    said = cardinal(int(hour))
    if minute and int(minute):
        said += f" oh {cardinal(int(minute))}" if int(minute) < 10 else f" {cardinal(int(minute))}"
    elif minute and not half:
        said += " o'clock" if 0 < int(hour) <= 12 else " hundred hours"
    if second:
        said += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
    if half:
        said += f" {half[0].upper()} M"
        ends = re.match(rf"\s*$|\s+(?!{_SAME_SENTENCE})[A-Z]", match.string[match.end():])
        said += "." if half.endswith(".") and ends else ""
    return said


def _money(match: re.Match) -> str:
    sign, amount, magnitude = match.groups()
    unit, cent = _MONEY[sign]
    amount = amount.replace(",", "")
    if magnitude:
        return f"{number(amount)} {_MAGNITUDES.get(magnitude.lower(), magnitude)} {unit}{'' if sign == '¥' else 's'}"
    whole, _, part = amount.partition(".")
    if cent and len(part) == 2:
        parts = [_counted(int(whole or 0), unit)] if int(whole or 0) or not int(part) else []
        if int(part):
            parts.append(f"{cardinal(int(part))} p" if cent == "p" else _counted(int(part), cent))
        return " ".join(parts)
    return f"{number(amount)} {unit}" if amount == "1" or sign == "¥" else f"{number(amount)} {unit}s"


def _counted(count: int, unit: str) -> str:
    return f"{cardinal(count)} {unit}" if count == 1 else f"{cardinal(count)} {unit}s"


def _measure(match: re.Match) -> str:
    amount, unit = match[1], _UNITS[match[2]]
    if amount != "1":
        first, *rest = unit.split(" per ") if " per " in unit else unit.split(" ", 1)
        glue = " per " if " per " in unit else " "
        if first == "kilowatt" and rest:
            return f"{number(amount)} kilowatt hours"
        unit = glue.join([_PLURALS.get(first, f"{first}s"), *rest])
    return f"{number(amount)} {unit}"


def _fraction(match: re.Match) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    name = {2: "half", 4: "quarter"}.get(bottom, ordinal(bottom) if bottom else "zero")
    if bottom == 0 or top >= bottom or bottom > 100:
        said = f"{cardinal(top)} over {cardinal(bottom)}"
    elif top == 1:
        said = f"a {name}" if whole else f"one {name}"
    else:
        said = f"{cardinal(top)} {'halves' if bottom == 2 else f'{name}s'}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _bare_number(match: re.Match) -> str:
    figures = match[0]
    is_year = re.fullmatch(r"1[1-9]\d\d|20\d\d", figures)
    return year(int(figures)) if is_year else number(figures)


def _decade(match: re.Match) -> str:
    return plural(year(int(match[1])) if len(match[1]) == 4 else cardinal(int(match[1])))


def _suffix(words: dict[str, str]) -> Callable[[re.Match], str]:
    """Replace an abbreviation and keep its dot where it also ends the sentence."""
    def replace(match: re.Match) -> str:
        ends = re.match(r"[\"')]*\s*$|[\"')]*\s+[A-Z]", match.string[match.end():])
        return words[match[1]] + ("." if ends else "")
    return replace


def _initial(match: re.Match) -> str:
    """J. Smith without the dot; after a small word or a letter (vitamin C. Then, P M. He) it ends the sentence."""
    before = match.string[:match.start()].split()
    is_name = not before or re.fullmatch(r"[A-Z](\.|\S+)", before[-1])
    return f"{match[1]} " if is_name else match[0]


def _initials(match: re.Match) -> str:
    ends = re.match(r"[\"')]*\s*$", match.string[match.end():])
    return " ".join(match[0].replace(".", "").upper()) + ("." if ends else "")


def _doctorate(_: re.Match) -> str:
    return "P H D"


def _regnal(match: re.Match) -> str:
    value = roman(match[2])
    return f"{match[1]} the {ordinal(value)}" if value else match[0]


def _numeral(match: re.Match) -> str:
    value = roman(match[2])
    return f"{match[1]} {cardinal(value)}" if value else match[0]


_Replacement = str | Callable[[re.Match], str]
# In this order: what is longer or more special comes before what would take it apart.
_RULES: tuple[tuple[str, _Replacement], ...] = (
    (r"\d[\d,]{24,}", lambda m: f"{_GAP}{digits(m[0].replace(',', ''))}{_GAP}"),  # beyond any scale's name
    (r"~(?=\s?[$€£¥]?\.?\d)", f"{_GAP}about{_GAP}"),
    (r"\s*~(?=\s|$)", ""),
    # addresses of the net
    (r"https?://(?:www\.)?|\bwww\.(?=\w)", ""),
    (r"(?<=\w)@(?=\w)", " at "),
    (r"(?<=[A-Za-z0-9])\.(?=(?:com|org|net|edu|gov|io|ai|co|uk|de|fr|dev|app|py|txt|wav)\b)", " dot "),
    # abbreviations written with dots inside
    (r"\be\.g\.,?", "for example,"),
    (r"\bi\.e\.,?", "that is,"),
    (r"\bPh\.\s?D\b\.?", _doctorate),
    (r"(?<![A-Za-z.])([A-Z])\. (?=[A-Z])", _initial),
    # dates and times
    (rf"\b(\d{{4}})-(0[1-9]|1[0-2])-{_DAY}\b", lambda m: _date(int(m[2]), m[3], m[1])),
    (rf"(?<![\d/])(0?[1-9]|1[0-2])/{_DAY}/(\d{{4}})\b", lambda m: _date(int(m[1]), m[2], m[3])),
    (rf"\b({_MONTH}) {_DAY}(?:st|nd|rd|th)?\b(?:,? (\d{{4}})\b)?(?![:%])", lambda m: _date(_month(m[1]), m[2], m[3])),
    (rf"\b(?:the )?{_DAY}(?:st|nd|rd|th)?(?: of)? ({_MONTH})(?:,? (\d{{4}})\b)?",
     lambda m: f"the {ordinal(int(m[1]))} of {_MONTHS[_month(m[2]) - 1]}" + (f", {year(int(m[3]))}" if m[3] else "")),
    (rf"\b({_SHORT_MONTHS})\.(?= |,|$)", lambda m: _MONTHS[_month(m[1]) - 1]),
    (rf"\b({_alternatives(_DAYS)})\.(?=,| [A-Zt\d])", lambda m: _DAYS[m[1]]),
    (r"(\d:\d\d|\d\s?[AaPp]\.?[Mm]\.?)\s?-{1,2}\s?(?=\d)", r"\1 to "),
    (r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?!:?\d)(?:\s?([AaPp]\.?\s?[Mm]\b\.?))?", _time),
    (r"(?<![\d:.])(1[0-2]|0?[1-9])()()\s?([AaPp]\.[Mm]\.|[AaPp][Mm]\b)", _time),
    (r"\b(?:[A-Za-z]\.){2,}", _initials),
    (r"(?<!\w)'?(\d0|1\d\d0|20\d0)s\b", _decade),
    # money
    (rf"([$€£¥])({_NUMBER})\s?-{{1,2}}\s?(?=[$€£¥])", r"\1\2 to "),
    (rf"([$€£¥])({_NUMBER})\s?-{{1,2}}\s?(?={_NUMBER})", r"\2 to \1"),
    (rf"(?:\bUS)?([$€£¥])\s?({_NUMBER})(?:\s?(bn|tn|[kKmMbB]|thousand|million|billion|trillion)\b)?", _money),
    (rf"({_NUMBER})\s?¢", lambda m: _counted(int(m[1]), "cent") if m[1].isdigit() else f"{number(m[1])} cents"),
    # ranges, signs, ratios, telephone numbers
    (r"\b(\d{3})-(\d{3})-(\d{4})\b", lambda m: ", ".join(digits(part) for part in m.groups())),
    (r"\b(\d{3})-(\d{4})\b", lambda m: ", ".join(digits(part) for part in m.groups())),
    (rf"({_NUMBER})\s?-{{1,2}}\s?(?=({_NUMBER}))", r"\1 to "),
    (rf"(?<![\w)])-(?={_NUMBER})", "minus "),
    (rf"({_NUMBER})\s?[*x]\s?(?={_NUMBER})", r"\1 times "),
    (r"(\d+):(?=\d+)", r"\1 to "),
    # measures
    (r"\b(\d)'(\d{1,2})(?:\"|'')", lambda m: f"{cardinal(int(m[1]))} feet {cardinal(int(m[2]))}"),
    (rf"({_NUMBER})\s?({_UNIT})(?![A-Za-z'°])", _measure),
    (r"\b(24|20|9|50)/(7|20|11|50)\b", lambda m: f"{cardinal(int(m[1]))} {cardinal(int(m[2]))}"),
    (r"(?<![\d/])(?:(\d+)\s+)?(\d+)/(\d+)(?![\d/])", _fraction),
    (r"\b(\d+)(?:,(\d{3}))*(?:st|nd|rd|th)\b", lambda m: ordinal(int(re.sub(r"\D", "", m[0])))),
    # titles and other abbreviations
    (rf"\b({_alternatives(_NUMBERED)})\.\s?(?=\d)", lambda m: f"{_NUMBERED[m[1]]} "),
    (rf"(?<=[a-z] )({_alternatives(_SUFFIXES)})\.(?=\s*$|[,;)]|\s+[a-z])", _suffix(_SUFFIXES)),
    (rf"(?<=[A-Z][a-z]{{3}} )({_alternatives(_SUFFIXES)})\.(?=\s*$|[,;)]|\s+[a-z])", _suffix(_SUFFIXES)),
    (rf"\b({_alternatives(_TITLES)})\.", lambda m: _TITLES[m[1]]),
    (r"\b(Mr|Mrs|Ms|Dr)\b(?= [A-Z])", lambda m: _TITLES[m[1]]),
    (rf"\b({_alternatives(_ABBREVIATIONS)})\.", _suffix(_ABBREVIATIONS)),
    (rf"\b({_MONARCHS}) ([IVX]{{2,}}|V|X)\b(?!')", _regnal),
    (r"\b((?:World War|Chapter|Part|Act|Scene|Volume|Section|Phase|Type|Book|Episode|Super Bowl)) ([IVXL]+)\b(?!')",
     _numeral),
    # what is left of numbers; letters that touch figures are words of their own (H2O, 4K)
    (r"#\s?(?=\d)", "number "),
    (r"(?<=\d)\.(?=\d+\.)|(?<=\.\d)\.(?=\d)|(?<=\.\d\d)\.(?=\d)", " point "),
    (rf"{_NUMBER}", lambda m: f"{_GAP}{_bare_number(m)}{_GAP}"),
    # signs
    (r"\bC#", "C sharp"),
    (r"\b(and|either)/(?=or\b)", r"\1 "),
    (r"(?<=[A-Za-z])/(?=[A-Za-z])", " or "),
    (f"[{''.join(_SIGNS)}]", lambda m: f"{_GAP}{_SIGNS[m[0]]}{_GAP}"),
)
# A model that was trained on letters knows these by their dots, as NVIDIA's texts of LJSpeech have them.
_DOTTED = (_initial, _initials, _doctorate)
_LETTER_RULES: tuple[tuple[str, _Replacement], ...] = (
    (r"\bMrs\.", "misess"),  # so it stands in those texts
    *(rule for rule in _RULES if rule[1] not in _DOTTED),
    (r"\b([AP]) M\b\.?", r"\1.M."),
    (rf"(?<=\w){_GAP}+(?=\w)", " "), (_GAP, ""),
)
# Marks last: quotes, emphasis and underscores are silent, brackets are parentheses.
_MARKS: tuple[tuple[str, _Replacement], ...] = (
    (r"[\"`*]|''", ""),
    (_SHORTENED, "\x00"),  # 'tis keeps its apostrophe
    (r"(?<![A-Za-z])'|'(?![A-Za-z])", ""),
    ("\x00", "'"),
    (r"_", " "), (r"\[", "("), (r"\]", ")"),
    (r"(?<=[A-Za-z])-(?=[A-Za-z])", " "),
    (r"\s*-{2,}\s*|\s+-\s+", " - "),
    (r"(?<! )-|-(?! )", " "),
    (r"(?:\s-)+(?=\s*(?:[!),.:;?]|$|\s-))|(?<=\()\s*-(?= )", ""),
    (r"\.{2,}(?=\s*[a-z])", ","),
    (r"(?<=[a-z])\.(?=[A-Z][a-z])", ". "),
    (r"(?<=[A-Za-z])\.(?=[A-Za-z])", " dot "),
    (r"\s+", " "),
    (r" (?=[!),.:;?])|(?<=\() ", ""),
    (r"[!,.:;?](?: ?[!,.:;?])+", lambda m: min(m[0].replace(" ", ""), key="?!.;:,".index)),
    (r"(?<=[!),.:;?])(?=[A-Za-z(])", " "),
    (r"\(\)", ""),
    (r"^[\s!),.:;?-]+|[\s(-]+$", ""),
)


def _compiled(rules: tuple[tuple[str, _Replacement], ...]) -> list[tuple[re.Pattern, _Replacement]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in rules]


_SPOKEN, _LETTERS = _compiled((*_RULES, *_MARKS)), _compiled(_LETTER_RULES)


def _applied(rules: list[tuple[re.Pattern, _Replacement]], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _capitals(text: str, after_each: str) -> str:
    """Write US as U S or U.S.; a text that SHOUTS (or comes from a recogniser without small letters) is made small."""
    words = [word for word in re.findall(r"\b[A-Z]{2,}\b", text) if word not in _CAPITALS]
    if len(words) > 1 and max(map(len, words)) > 3 and not re.search("[a-z]", text):
        return text.lower()
    spelt = rf"\b({'|'.join(sorted(_CAPITALS))})\b(?!['$])(\.?)"
    return re.sub(spelt, lambda m: after_each.join(m[1]) + (m[2] or after_each.strip()), text)


def normalise(text: str, *, letters: bool = False) -> str:
    """Write out in words what is not words, as an American reader says it.

    Numbers, ordinals, years, decades, dates, times, money, percentages, measures, fractions, roman numerals after
    kings and chapters, titles, common abbreviations, signs and net addresses become words. Case is kept, but of a
    text all in capitals; the marks
    ``! ( ) , . : ; ?`` and a dash (" - ") are kept, of several together the strongest. Quotation marks, emphasis
    (``*``), trade marks and invisible characters are silent and left out; accents go (naïve is naive). Groups of
    phonemes ``{HH AW1}`` stay as they are. Normalising twice is normalising once.

    Parameters
    ----------
    text : str
        One or more sentences.
    letters : bool
        For models that were trained on letters. All marks, quotes, hyphens (twenty-three) and dots
        (U.S., p.m.) stay as they were written; words are written out as above.

    Returns
    -------
    str
        Letters, apostrophes, the marks above, single spaces and groups of phonemes; with `letters` any marks.

    Raises
    ------
    TextError
        For a character that cannot be said, with the character, its name and its position.

    Examples
    --------
    >>> normalise("Dr. Smith paid $3.50 in 1999")
    'doctor Smith paid three dollars fifty cents in nineteen ninety nine'
    """
    pieces = fold(text)
    groups = pieces[1::2]
    # "{}" holds the place of a group, so that rules and marks see their neighbours across it.
    plain = " ".join(("{}" if letters else " {} ").join(pieces[::2]).split())
    if letters:
        said = _applied(_LETTERS, _capitals(plain.replace("–", "-"), "."))
    else:
        said = _applied(_SPOKEN, _capitals(plain.replace("–", "--"), " "))
    return said.format(*groups)
