"""Which language a text is written in, as far as its characters and its commonest words tell."""

from __future__ import annotations

import re

__all__ = [
    "CHARACTER_LANGUAGES",
    "base_language",
    "common_word_hits",
    "detect_language",
    "is_chinese",
    "is_speakable",
]

CHARACTER_LANGUAGES = frozenset({"zh", "yue", "ja"})
"""Languages written without spaces: their texts are measured in characters and end in `。`."""

_HAN = re.compile(r"[\u4e00-\u9fff]")
_IDEOGRAPH = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_KANA = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HANGUL = re.compile(r"[\uac00-\ud7af\u1100-\u11ff\u3130-\u318f]")
_LATIN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]+(?:['’][A-Za-z\u00c0-\u024f]+)*")
_OTHER_LETTER = re.compile(r"[^\W\d_]")

# The commonest short words of each language. A word may stand in several rows; the language with most hits wins and
# English wins a tie.
_COMMON_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the of and to in is that for it with was on are i i'm it's have has had you this be at my a an he she we"
        " they not but from by as what do does don't can will would there which his her our or if no so who how all me",
        "de": "der die das und ist ich nicht ein eine einen einer mit auf für sie wir es habe hat haben zu den dem des"
        " von im sind war wie auch sich bei oder wenn aber noch nach uhr am um kostet",
        "fr": "le la les l et est un une je ne pas pour que dans vous nous il elle des du de au aux avec sur qui ce"
        " cette son sa ses j'ai c'est d'un a ans mais ou où plus",
        "es": "el la los las y es un una que no en por para con se su del de yo lo como más pero tengo hay son está al"
        " años",
        "it": "il lo la gli le e è un una che non per con di sono ho del della dei mi ci si anche ma più ha nel anni",
        "pt": "o os as um uma e é que não em para com do da dos das no na se por eu tenho mais mas são anos ao",
        "nl": "de het een en van is ik niet dat op te met zijn voor we er heb ook maar bij uur",
        "sv": "och är jag att det en ett inte på som för med av har den till var vi om",
        "da": "og er jeg at det en et ikke på som for med af har den til vi",
        "no": "og er jeg å det en et ikke på som for med av har den til vi",
        "pl": "i w nie na się jest to z do że jak ale ma mam są lat po",
        "tr": "ve bir bu da de için ile ne çok var ben",
        "id": "yang dan di ini itu dengan untuk tidak dari saya ada akan",
        "vi": "và là của có không tôi một cho được các người",
    }.items()
}


def base_language(language: str) -> str:
    """The primary part of a language code in lower case: `en-GB` and `EN` are `en`, `zh_CN` is `zh`."""
    return re.split(r"[-_]", language.strip().lower(), maxsplit=1)[0]


def is_chinese(text: str) -> bool:
    """Whether the text holds a character of U+4E00..U+9FFF: the reference's test for its Chinese path."""
    return _HAN.search(text) is not None


def is_speakable(text: str) -> bool:
    """Whether the text holds at least one letter or number, that is, anything to pronounce."""
    return any(character.isalnum() for character in text)


def detect_language(text: str) -> str:
    """Guess the language code of a text; `und` where it is certainly not one whose numbers we can read.

    Ideographs count as words against the Latin words of the text, so one foreign name does not decide. Latin script
    without any word of the tables below counts as English unless it carries accents.
    """
    latin = _LATIN_WORD.findall(text)
    kana, han, hangul = (len(pattern.findall(text)) for pattern in (_KANA, _IDEOGRAPH, _HANGUL))
    if kana + han and kana + han >= max(len(latin), hangul):
        return "ja" if kana else "zh"
    if hangul and hangul >= len(latin):
        return "ko"
    latin_letters = sum(map(len, latin))
    if len(_OTHER_LETTER.findall(text)) - latin_letters - kana - han - hangul > latin_letters:
        return "und"
    return _latin_language(_latin_words(text))


def common_word_hits(text: str) -> dict[str, int]:
    """How many words of a text are among the commonest of each language in Latin script."""
    return _hits(_latin_words(text))


def _latin_words(text: str) -> list[str]:
    return [word.lower().replace("’", "'") for word in _LATIN_WORD.findall(text)]


def _hits(words: list[str]) -> dict[str, int]:
    return {language: sum(word in common for word in words) for language, common in _COMMON_WORDS.items()}


def _latin_language(words: list[str]) -> str:
    scores = _hits(words)
    best = max(scores, key=lambda language: (scores[language], language == "en"))
    if scores[best]:
        return best
    return "en" if all(word.isascii() for word in words) else "und"
