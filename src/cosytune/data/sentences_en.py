"""The English of `sentences`: words, and a maker for each type of sentence."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["MAKERS"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(text.replace("\n", "").split("|"))


# fmt: off
_ADJECTIVES = _words("""narrow yellow gentle ancient crooked hollow frozen busy wooden silver curious heavy empty
quiet velvet round shallow bitter polished modern broken cheerful dusty enormous foreign golden humble icy jolly kind
lonely muddy noisy orange purple rusty sleepy thick unusual vivid weary young awkward bright clever damp elegant faded
grey hasty invisible jagged large mild northern odd pale rough smooth tiny useful warm early bold cheap deep fresh
rare sharp strange absurd brave brittle calm charming clumsy crimson cruel dense dim dreary dull earnest eager fancy
fierce firm flimsy fluffy fragile frantic furious gloomy graceful greasy grim harsh honest hungry idle innocent
jealous joyful lazy lean loose lovely lucky mighty moist naked neat noble obvious patient peculiar plump precious
proud puny quaint ragged rigid royal scarlet shabby shy sincere sleek slender slippery smug sober solid spare steep
sturdy tame tender tidy timid tough ugly urgent vague vast violet wicked wild wise worthy wretched""")
_NOUNS = _words("""bridge kitchen violin harbour ladder lantern window orchard engine basket pigeon teacher mountain
jacket bicycle garden hammer island judge kettle library meadow neighbour ocean painter quarry river shepherd tower
umbrella village wagon yard apple butcher castle doctor elephant feather goose hotel insect jewel king lemon mirror
nurse onion pocket rabbit shadow tailor uncle valley whistle blanket church drawer envelope farmer ghost horse
inspector journey keyboard letter machine needle officer puzzle queue ribbon soldier thunder voyage wizard youth zebra
theatre camera pilot oyster acrobat alley ankle anchor avenue badge balloon barrel beetle blossom boulder branch
breeze bucket bullet cabin canal captain carpet cellar chimney cousin cradle crystal cushion dagger desert diamond
dragon eagle elbow emperor failure falcon fiddle flavour forest fountain fox furnace gallery giant glacier goblet
gravel gymnast hawk hedge helmet hermit hurdle igloo iron jungle kitten knight lagoon lawyer leopard lighthouse lizard
lodge magnet marble market monster mustard napkin nephew notebook oven owl palace parrot passage pebble phantom pillow
planet plumber poet prison professor pumpkin pyramid quilt raven rooster sailor satchel scholar sculpture shoulder
skeleton sparrow spider squirrel statue stream surgeon swallow sword temple thief throne tiger tractor treasure
trumpet turtle vase vehicle vessel vulture waiter walrus weaver wheel widow willow wolf workshop wrench""")
_CARRY = _words("""carried painted followed noticed repaired forgot borrowed measured hid watched dropped cleaned
described photographed sold bought lifted pushed washed admired counted covered drew found ignored joined kept left
moved opened praised questioned reached shook touched visited welcomed examined chased guarded arranged avoided buried
chose climbed delivered destroyed divided embraced fetched forgave gathered imagined judged mentioned obeyed protected
refused rescued scratched searched stole swallowed taught threw trusted understood unlocked weighed wrapped""")
_STAY = _words("""waited vanished slept laughed argued whistled trembled rested shivered listened smiled worked paused
sang wandered hesitated stumbled rose fell danced coughed knelt yawned hurried""")
_BASE = _words("""carry paint follow notice repair forget borrow measure hide watch clean describe sell buy lift push
wash admire count cover draw find ignore join keep leave move open praise reach shake touch visit welcome examine
chase arrange avoid bury choose climb deliver destroy divide embrace fetch forgive gather imagine judge knit mention
obey protect refuse rescue scratch search steal swallow teach throw trust understand unlock weigh wrap""")
_ADVERBS = _words("""slowly quietly suddenly gladly rarely gently often badly carefully politely secretly nervously
firmly again together outside upstairs yesterday early twice alone thoroughly proudly loudly""")
_PLACES = _phrases("""behind the church|near the old station|under a wide bridge|beyond the hills|in the attic|
on the third floor|across the frozen lake|beside the road|at the edge of town|inside the barn|along the coast|
between two fences|opposite the bakery|over the garden wall|around the corner|outside the school|below the cliffs|
in a foreign city|by the kitchen door|among the tall trees|through the tunnel|on the roof""")
_TIMES = _phrases("""before breakfast|after the storm|at midnight|during the winter|every other week|
in the early morning|on Thursday|last autumn|just before the train left|until sunset|since the war ended|
in less than an hour|at the usual time|a week ago|next spring|all afternoon|once in a while|
on the longest day of the year""")
_NAMES = _words("""Hannah Oliver Mrs.Jacobs Victor Sheila Doctor.Vaughan Bridget Joshua Mr.Chowdhury Ingrid Theodore
Naomi Captain.Zhou Ursula Patrick Yasmin Leonard Beatrice Hugo Miss.Fairweather Samuel Professor.Osgood Deborah Gareth
Juliet Rahul Esther Walter Sophia Angus Winifred Thomas Amara Kenji Pablo Georgia Quentin Felix Matilda Isaac""")
_TOWNS = _words("""Lisbon Edinburgh Chicago Tokyo Nairobi Vienna Toronto Cairo Oxford Bergen Geneva Jakarta Quebec
Dublin Athens Havana Zurich Shanghai Montreal Adelaide""")
_STUFF = _words("""bread butter cheese thread paper coffee soap sugar string vinegar honey charcoal rope chalk pepper
wool ginger candles matches peaches cherries mushrooms oysters spoons buttons hinges nails boots gloves brushes maps
stamps batteries walnuts""")
_LINKS = _phrases("""because|although|while|so that|even though|as soon as|until|before|whenever|unless""")
_SAY = _words("said asked whispered shouted replied insisted murmured explained promised warned")
_FEELINGS = _words("wonderful terrible ridiculous beautiful exhausting surprising delightful dreadful generous foolish")
_UNITS = _words("metres pounds pages tickets years minutes steps bottles letters miles chairs dollars passengers boxes")
# fmt: on
_ONSETS = _words("b br c ch d dr f fl g gl gr h j k kl l m n p pl pr qu r s sc sh sl sm st str t th tr v w y z")
_VOWELS = _words("a a e e i i o o u ai ea ee oo ou oy ar er or")
_CODAS = _words("b ck d ff g l ll m mp n nd ng nt p r rd rk rn s sh sk st t th v x")
_ONES = _words("""zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen""")
_TENS = _words("zero ten twenty thirty forty fifty sixty seventy eighty ninety")


def _article(word: str) -> str:
    return ("an " if word[0] in "aeiou" and not word.startswith("use") else "a ") + word


def _thing(rng: random.Random) -> str:
    """A noun phrase in the singular."""
    phrase = f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}" if rng.random() < 0.7 else rng.choice(_NOUNS)
    if rng.random() < 0.4:
        return _article(phrase)
    return f"{rng.choice(('the', 'the', 'my', 'your', 'our', 'their', 'this', 'that', 'another'))} {phrase}"


def _name(rng: random.Random) -> str:
    if rng.random() < 0.3:
        return rng.choice(("", "Mr. ", "Mrs. ", "Miss ", "Doctor ")) + _invented(rng)
    return rng.choice(_NAMES).replace(".", " ").replace("Mrs ", "Mrs. ").replace("Mr ", "Mr. ")


def _invented(rng: random.Random) -> str:
    """A surname nobody has, for sounds that follow each other in no word of the lists."""
    middle = rng.choice(_ONSETS) + rng.choice(_VOWELS) if rng.random() < 0.4 else ""
    last = rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)
    return (rng.choice(_ONSETS) + rng.choice(_VOWELS) + middle + last).capitalize()


def _who(rng: random.Random) -> str:
    return _name(rng) if rng.random() < 0.35 else _thing(rng)


def _clause(rng: random.Random) -> str:
    """Somebody did something, without capital or full stop."""
    if rng.random() < 0.3:
        core = f"{_who(rng)} {rng.choice(_STAY)}"
        return f"{core} {rng.choice(_ADVERBS)}" if rng.random() < 0.5 else f"{core} {rng.choice(_PLACES)}"
    core = f"{_who(rng)} {rng.choice(_CARRY)} {_thing(rng)}"
    tail = rng.random()
    if tail < 0.3:
        return f"{core} {rng.choice(_PLACES)}"
    if tail < 0.55:
        return f"{core} {rng.choice(_TIMES)}"
    return f"{core} {rng.choice(_ADVERBS)}" if tail < 0.75 else core


def _number(value: int) -> str:
    """A whole number below a million in words."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10] + (f"-{_ONES[value % 10]}" if value % 10 else "")
    if value < 1000:
        return f"{_ONES[value // 100]} hundred" + (f" and {_number(value % 100)}" if value % 100 else "")
    rest = value % 1000
    link = " and " if rest < 100 else " "
    return f"{_number(value // 1000)} thousand" + (f"{link}{_number(rest)}" if rest else "")


def _some_number(rng: random.Random) -> str:
    return _number(rng.randrange(2, 10 ** rng.randint(1, 5)))


def _statement(rng: random.Random) -> str:
    return f"{_clause(rng)}."


def _question(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"did {_who(rng)} {rng.choice(_BASE)} {_thing(rng)}?",
            lambda: f"why would {_who(rng)} {rng.choice(_BASE)} {_thing(rng)} {rng.choice(_TIMES)}?",
            lambda: f"where can I {rng.choice(_BASE)} {_thing(rng)}?",
            lambda: f"who {rng.choice(_CARRY)} {_thing(rng)} {rng.choice(_PLACES)}?",
            lambda: f"is {_thing(rng)} really more {rng.choice(_FEELINGS)} than {_thing(rng)}?",
            lambda: f"how long has {_who(rng)} been {rng.choice(_PLACES)}?",
            lambda: f"{_clause(rng)}, didn't you know?",
        )
    )()


def _exclamation(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"what {_article(rng.choice(_FEELINGS))} {rng.choice(_NOUNS)} {rng.choice(_PLACES)}!",
            lambda: f"please {rng.choice(_BASE)} {_thing(rng)} {rng.choice(_ADVERBS)}!",
            lambda: f"how {rng.choice(_FEELINGS)} it was when {_clause(rng)}!",
            lambda: f"never {rng.choice(_BASE)} {_thing(rng)} {rng.choice(_TIMES)}!",
            lambda: f"look, {_clause(rng)}!",
        )
    )()


def _list(rng: random.Random) -> str:
    items = rng.sample(_STUFF, rng.randint(3, 6))
    series = ", ".join(items[:-1]) + f" and {items[-1]}"
    verb = rng.choice(("bought", "packed", "needed", "sold", "forgot", "asked for", "found"))
    return f"{_who(rng)} {verb} {series} {rng.choice(_TIMES)}."


def _numbers(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"{_who(rng)} counted {_some_number(rng)} {rng.choice(_UNITS)} {rng.choice(_PLACES)}.",
            lambda: f"the price rose from {_some_number(rng)} to {_some_number(rng)} {rng.choice(_TIMES)}.",
            lambda: f"{_name(rng)} was born in {_number(rng.randrange(18, 20))} {_number(rng.randrange(11, 99))}.",
            lambda: f"only {_number(rng.randrange(2, 90))} of the {_number(rng.randrange(90, 9000))} were left.",
            lambda: f"turn to page {_some_number(rng)} and read line {_number(rng.randrange(1, 60))}.",
        )
    )()


def _names(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"{_name(rng)} and {_name(rng)} travelled from {' to '.join(rng.sample(_TOWNS, 2))} together.",
            lambda: f"{_name(rng)} of {rng.choice(_TOWNS)} {rng.choice(_CARRY)} {_thing(rng)}.",
            lambda: f"in {rng.choice(_TOWNS)}, {_name(rng)} {rng.choice(_STAY)} {rng.choice(_TIMES)}.",
            lambda: f"ask {_name(rng)} whether {_name(rng)} still lives in {rng.choice(_TOWNS)}.",
        )
    )()


def _quote(rng: random.Random) -> str:
    inner = _clause(rng)
    inner = inner[0].upper() + inner[1:]
    if rng.random() < 0.5:
        return f'"{inner}," {_name(rng)} {rng.choice(_SAY)} {rng.choice(_ADVERBS)}.'
    return f'{_name(rng)} {rng.choice(_SAY)}, "{inner}."'


def _long(rng: random.Random) -> str:
    link = rng.choice(_LINKS)
    return rng.choice(
        (
            lambda: f"{link} {_clause(rng)}, {_clause(rng)}, and {_clause(rng)}.",
            lambda: f"{_clause(rng)} {link} {_clause(rng)}, but {_clause(rng)} {rng.choice(_TIMES)}.",
            lambda: f"{rng.choice(_TIMES)}, {_clause(rng)}; nobody knew that {_clause(rng)} {link} {_clause(rng)}.",
        )
    )()


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "statement": _statement,
    "question": _question,
    "exclamation": _exclamation,
    "list": _list,
    "number": _numbers,
    "name": _names,
    "quote": _quote,
    "long": _long,
}
