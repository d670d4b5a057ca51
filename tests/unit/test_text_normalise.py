"""Written text to spoken text: tables of readings, languages, cleaning, and what may never happen."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.text import DEFAULT, REFERENCE, detect_language, is_chinese, normalise
from cosytune.text.grammar import read_stretches, read_with_grammar
from cosytune.text.spelling import cardinal, decade, digits, number, year

ENGLISH = {
    # thousands and plain numbers
    "I have 3 cats, 12 dogs and 1024 birds!": "I have three cats, twelve dogs and one thousand and twenty-four birds!",
    "There are 1234 birds.": "There are one thousand two hundred and thirty-four birds.",
    "1,234": "one thousand two hundred and thirty-four",
    "100,000 people": "one hundred thousand people",
    "007": "zero zero seven",
    "12345678901234567890": " ".join(["one two three four five six seven eight nine zero"] * 2),
    "-5 degrees": "minus five degrees",
    "#1 and No. 5": "number one and number five",
    # decimals
    "3.14": "three point one four",
    "0.5 or .5": "zero point five or zero point five",
    "1,234.56": "one thousand two hundred and thirty-four point five six",
    "Version 2.0, v1.2.3": "Version two point zero, v one point two point three",
    # money
    "I paid $1,234.50.": "I paid one thousand two hundred and thirty-four dollars and fifty cents.",
    "It costs $0.99, not $1.01.": "It costs ninety-nine cents, not one dollar and one cent.",
    "£20 and €1 and ¥500": "twenty pounds and one euro and five hundred yen",
    "$2.5 billion, $1.5M": "two point five billion dollars, one point five million dollars",
    "$20-30": "twenty to thirty dollars",
    "-$5 or US$5.00": "minus five dollars or five US dollars",
    "20 €": "twenty euros",
    # years and decades
    "in 1066": "in ten sixty-six",
    "In 2024 sales rose.": "In twenty twenty-four sales rose.",
    "1984 was good; 1500 people came.": "nineteen eighty-four was good; one thousand five hundred people came.",
    "in 1900, 1905, 2000 and 2005": "in nineteen hundred, nineteen oh five, two thousand and two thousand and five",
    "1999-2005": "nineteen ninety-nine to two thousand and five",
    "the 1990s and the '90s": "the nineteen nineties and the nineties",
    # dates
    "January 5, 2024": "January fifth, twenty twenty-four",
    "Sept. 3rd": "September third",
    "the 3rd of May 1901": "the third of May, nineteen oh one",
    "5 January": "the fifth of January",
    "2024-01-05": "January fifth, twenty twenty-four",
    "12/25/2024": "December twenty-fifth, twenty twenty-four",
    # times
    "10:30 a.m. He left.": "ten thirty AM. He left.",
    "at 3:05 pm": "at three oh five PM",
    "7am-9pm": "seven AM to nine PM",
    "12:00, 13:00": "twelve o'clock, thirteen hundred",
    "23:59:59": "twenty-three fifty-nine and fifty-nine seconds",
    "12:00:00, 10:30:00 and 12:00:30": "twelve o'clock, ten thirty and twelve o'clock and thirty seconds",
    "00:15": "zero fifteen",
    # ordinals
    "1st 2nd 3rd 11th 21st 22nd 100th": "first second third eleventh twenty-first twenty-second one hundredth",
    # telephone and other digit groups
    "call (555) 123-4567": "call five five five, one two three, four five six seven",
    "+1 555 123 4567": "plus one, five five five, one two three, four five six seven",
    "1-800-555-0199": "one, eight zero zero, five five five, zero one nine nine",
    "192.168.1.1": "one nine two dot one six eight dot one dot one",
    # units
    "5 km, 1 kg, 5 m, 100 g": "five kilometers, one kilogram, five meters, one hundred grams",
    "44.1 kHz at 60 km/h": "forty-four point one kilohertz at sixty kilometers per hour",
    "5 m² in 10 s": "five square meters in ten seconds",
    "-20°C, 98.6 °F": "minus twenty degrees Celsius, ninety-eight point six degrees Fahrenheit",
    "12.5% of 100 %": "twelve point five percent of one hundred percent",
    "5'10\"": "five foot ten",
    "3.5k": "three point five thousand",
    # fractions, ranges, sums
    "3/4 cup, 2½ cups": "three quarters cup, two and a half cups",
    "22/7": "twenty-two sevenths",
    "24/7, 9/11, 50/50": "twenty-four seven, nine eleven, fifty-fifty",
    "pages 5-10": "pages five to ten",
    "2+2=4, 4x4, 10^3": "two plus two equals four, four times four, ten to the power of three",
    "x²": "x squared",
    # names with figures, addresses
    "MP3, B2B, COVID-19, F-16": "MP three, B two B, COVID nineteen, F sixteen",
    "See www.example.com.": "See WWW dot example dot com.",
    "me@example.com": "me at example dot com",
    # abbreviations
    "Mr. and Mrs. Smith met Dr. No, e.g. at St. John's": (
        "Mister and Missus Smith met Doctor No, for example at Saint John's"
    ),
    "Apples, etc. The end.": "Apples, et cetera. The end.",
    "AT&T": "AT and T",
    # nothing to read
    'She said "don\'t".': 'She said "don\'t".',
}

CHINESE = {
    "今天是2024年1月5日。": "今天是二零二四年一月五日。",
    "2024-01-05": "二零二四年一月五日",
    "2024.1.5": "二零二四年一月五日",
    "价格是$1,234.50。": "价格是一千二百三十四点五美元。",
    "价格￥99.9元": "价格九十九点九元",
    "￥100": "一百元",
    "$1.5亿": "一点五亿美元",
    "100.00元": "一百元",
    "气温-5℃": "气温零下五摄氏度",
    "下午3:30": "下午三点三十分",
    "2:05": "两点零五分",
    "3.14": "三点一四",
    "1234只鸟": "一千二百三十四只鸟",
    "100,000": "十万",
    "12.5%": "百分之十二点五",
    "20%-30%": "百分之二十到百分之三十",
    "1‰": "千分之一",
    "3/4杯": "四分之三杯",
    "第21届": "第二十一届",
    "第1-3章": "第一到三章",
    "1998-2003年": "一九九八年到二零零三年",
    "90年代": "九十年代",
    "5—10人": "五到十人",
    "比分是3-1": "比分是三比一",
    "电话138-1234-5678": "电话幺三八幺二三四五六七八",
    "身份证110101199001011234": "身份证一一零一零一一九九零零一零一一二三四",
    "v1.2.3": "v一点二点三",
    "192.168.1.1": "一九二点一六八点一点一",
    "5kWh，100g，60km/h": "五千瓦时，一百克，每小时六十公里",
    "面积是5m²（大约）。": "面积是五平方米大约。",
    "COVID-19和MP3": "COVID十九和MP三",
    "No.1": "第一",
    "2个": "两个",
    '他说"3个"，“5个”。': '他说"三个"，“五个”。',
    "访问www.example.com/a1，谢谢": "访问www.example.com/a1，谢谢",
    "２０２４年": "二零二四年",
    "今天 天气 good，very good 啊": "今天天气good，very good啊",
    "价格\n换行": "价格换行",
    "我 爱 café au lait 和 Москва и Киев。": "我爱café au lait和Москва и Киев。",
    "甲 —— 乙": "甲 乙",
    "结束了，，": "结束了。",
}

OTHER_LANGUAGES = {
    "Ich habe 3 Katzen für 5 Euro in München.": "de",
    "J'ai 3 chats": "fr",
    "Tengo 3 gatos y 2 perros": "es",
    "У меня 3 кошки": "und",
    "고양이 3마리": "ko",
    "عندي 3 قطط": "und",
    "Größe 5": "und",
}


@pytest.mark.parametrize(("written", "spoken"), ENGLISH.items())
def test_english_readings(written: str, spoken: str) -> None:
    assert normalise(written, "en") == spoken


@pytest.mark.parametrize(("written", "spoken"), CHINESE.items())
def test_chinese_readings(written: str, spoken: str) -> None:
    assert normalise(written, "zh") == spoken


def test_japanese_numbers_are_read_in_japanese() -> None:
    assert normalise("今日は3匹の猫がいます。") == "今日は三匹の猫がいます。"
    assert normalise("価格は1,234円です", "ja") == "価格は千二百三十四円です"


@pytest.mark.parametrize(("text", "language"), OTHER_LANGUAGES.items())
def test_other_languages_keep_their_figures_and_accents(text: str, language: str) -> None:
    assert detect_language(text) == language
    assert normalise(text) == text
    assert normalise(text, language) == text


def test_the_reference_reads_every_language_as_english() -> None:
    assert normalise("Ich habe 3 Katzen", options=REFERENCE) == "Ich habe three Katzen"


def test_a_given_language_beats_the_guess() -> None:
    assert normalise("Tim 3", "de") == "Tim 3"
    assert normalise("Tim 3", "en-GB") == normalise("Tim 3") == "Tim three"
    assert normalise("3 cats", "zh_CN") == "三cats"


def test_one_foreign_word_does_not_decide() -> None:
    assert detect_language("I paid 5 dollars for 茶") == "en"
    assert detect_language("我的 iPhone 很好") == "zh"
    assert detect_language("") == detect_language("1,234") == "en"
    assert is_chinese("for 茶")
    assert not is_chinese("ひらがな")


def test_only_the_number_reader_can_be_switched_off() -> None:
    silent = dataclasses.replace(DEFAULT, read_numbers=False)
    assert normalise("<b>3</b>  cats", "en", silent) == "3 cats"
    assert normalise("面积 5m²（大约），", "zh", silent) == "面积5m平方大约。"


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\x00b\u200bc\ufeffd\u202ee\ud800", "abcde"),
        ("\x1b[31mred\x1b[0m, \x1b[1;4mbold\x1b[m", "red, bold"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("<p>Hi <b>you</b><br/></p><!-- no -->", "Hi you"),
        ("# Title\n\n**Bold** _word_ and `code`", "Title. Bold word and code"),
        ("- one\n- two", "one. two"),
        ("see [this](http://example.com/x) now", "see this now"),
        ("Tom &amp; Ann &lt;3", "Tom and Ann <three"),
        ("one\r\ntwo\u00a0\t three", "one two three"),
        (
            "<strong>yes</strong> <laughter>ha</laughter> [breath]",
            "<strong>yes</strong> <laughter>ha</laughter> [breath]",
        ),
        ("a < b and c > d", "a < b and c > d"),
        ("ＡＢＣ", "ABC"),
    ],
)
def test_cleaning(raw: str, clean: str) -> None:
    assert normalise(raw, "en") == clean


def test_blank_lines_end_sentences_in_chinese_too() -> None:
    assert normalise("标题\n\n正文", "zh") == "标题。正文"


def test_full_stops_inside_chinese_text() -> None:
    silent = dataclasses.replace(DEFAULT, read_numbers=False)
    assert normalise("版本2.0在www.example.com.", "zh", silent) == "版本2.0在www.example.com。"
    assert normalise("版本2.0", options=dataclasses.replace(REFERENCE, read_numbers=False)) == "版本2。0"


def test_number_words() -> None:
    assert cardinal(-7) == "minus seven"
    assert cardinal(10**36) == "one" + " zero" * 36
    assert digits("0-9") == "zero nine"
    assert number("-1.50") == "minus one point five zero"
    assert [year(value) for value in (1776, 1800, 2010)] == ["seventeen seventy-six", "eighteen hundred", "twenty ten"]
    assert [decade(value) for value in (20, 1910, 2000)] == ["twenties", "nineteen tens", "two thousands"]


def test_the_reference_spells_runs_that_are_no_decimal_number() -> None:
    options = dataclasses.replace(REFERENCE, read_numbers=False)
    assert normalise("x²", options=options) == "xzero"
    assert normalise("9" * 5000, options=options).startswith("nine nine nine")


def test_the_grammar_gives_up_instead_of_failing() -> None:
    assert read_with_grammar("  3/4 ", "en") == "  three quarters "
    for unreadable in ("", "§3", "3 \ud800", '"3"', "3" * 1000):
        assert read_with_grammar(unreadable, "en") is None
    assert read_stretches("有3只。" * 200, "zh") == "有三只。" * 200
    assert "3" not in read_stretches("有3只猫在那里 " * 200, "zh")


@given(st.text(max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_normalises(text: str) -> None:
    for language in (None, "en", "zh"):
        spoken = normalise(text, language)
        assert not re.search(r"[0-9]", spoken) or language != "en"
        assert spoken == spoken.strip()


@given(st.text(alphabet="0123456789.,:-/$%() apm年月日", max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_figure_is_left_in_english(text: str) -> None:
    assert not re.search(r"\d", normalise(text, "en"))


def test_the_room_imports_neither_torch_nor_whisper() -> None:
    program = (
        "import sys; from cosytune.text import normalise, WhisperTokenizer; normalise('3 of 2/3', 'en');"
        " print(sorted({'torch', 'whisper', 'inflect'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
