import pytest
from hypothesis import given
from hypothesis import strategies as st

from cernvm.context import render, variables_of
from cernvm.core.errors import ContextFormatError

PIECES = st.sampled_from(
    ["[[", "]]", "[[IF A]]", "[[IF B]]", "[[ELSE]]", "[[ENDIF]]", "[[A]]", "[[C]]", "[[ IF ]]", "[[IF",
     "\n", "text", "= ", "[", "]", "[[IF]]", "[[a b]]", "[[1]]", "\u2028", "[[:space:]]"]
)  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="["), max_size=20)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a = [[A]]", "a = one"),
        ("[[A]][[A]]", "oneone"),
        ("[[IF A]]yes[[ENDIF]]", "yes"),
        ("[[IF NONE]]yes[[ENDIF]].", "."),
        ("[[IF EMPTY]]yes[[ELSE]]no[[ENDIF]]", "no"),
        ("[[IF ZERO]]yes[[ELSE]]no[[ENDIF]]", "no"),
        ("[[IF A]]x\ny[[ELSE]]z[[ENDIF]]\n", "x\ny\n"),
        ("[[IF A]]1[[IF NONE]]2[[ELSE]]3[[ENDIF]]4[[ELSE]]5[[ENDIF]]", "134"),
        ("[[IF NONE]]1[[IF A]]2[[ELSE]]3[[ENDIF]]4[[ELSE]]5[[ENDIF]]", "5"),
        ("[[IF NONE]][[UNKNOWN]][[ENDIF]]", ""),
        ('if [[ -n "$X" ]]; then [[:alpha:]]', 'if [[ -n "$X" ]]; then [[:alpha:]]'),
        ("[[NESTED]]", "[[A]]"),
    ],
)
def test_renders(text, shown):
    variables = {"A": "one", "EMPTY": "", "ZERO": "0", "NESTED": "[[A]]"}

    assert render(text, variables) == shown
    assert render(text, variables, lenient=True) == shown


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("\n[[PROXI]]", 2, "PROXI has no value"),
        ("[[IF A]]\n[[IF A]]\n[[ENDIF]]", 1, "[[IF A]] has no [[ENDIF]]"),
        ("a\n\n[[ENDIF]]", 3, "[[ENDIF]] has no [[IF"),
        ("[[ELSE]]", 1, "[[ELSE]] has no [[IF"),
        ("[[IF A]]\n[[ELSE]]\n[[ELSE]][[ENDIF]]", 3, "second"),
        ("x\n[[IF A\nb]]", 2, "[[IF is not closed"),
        ("[[IF A]] [[ENDIF", 1, "[[ENDIF is not closed"),
        ("[[IF A B]][[ENDIF]]", 1, "is no tag"),
        ("[[A-B]]", 1, "is no tag"),
        ("[[LINES]]", 1, "line break"),
    ],
)
def test_is_strict_and_names_the_line(text, line, reason):
    with pytest.raises(ContextFormatError) as caught:
        render(text, {"A": "1", "PROXY": "p", "LINES": "a\nsecret"}, where="x.tpl")

    assert caught.value.line == line
    assert reason in str(caught.value)
    assert "x.tpl" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_suggests_the_variable_that_was_meant():
    with pytest.raises(ContextFormatError) as caught:
        render("[[PROXI]]", {"PROXY": "p"})

    assert "did you mean PROXY" in caught.value.advice


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a[[NONE]]b", "ab"),
        ("a[[ENDIF]]b", "ab"),
        ("[[IF NONE]]kept[[A]]", "kept1"),
        ("[[IF A]]x[[ELSE]]y[[ELSE]]z[[ENDIF]]", "x"),
        ("[[A-B]] [[IF", "[[A-B]] [[IF"),
    ],
)
def test_lenient_behaves_as_the_original(text, shown):
    assert render(text, {"A": "1"}, lenient=True) == shown


@given(st.lists(PIECES, max_size=30).map("".join), st.dictionaries(st.sampled_from("ABC"), TEXT))
def test_any_text_renders_or_is_refused_with_a_line(text, variables):
    render(text, variables, lenient=True)
    refused_at = 1
    try:
        render(text, variables)
    except ContextFormatError as error:
        refused_at = error.line

    assert 1 <= refused_at <= text.count("\n") + 1


@given(TEXT, TEXT, st.booleans())
def test_text_around_tags_stays_as_it_is(before, after, is_given):
    variables = {"A": "yes"} if is_given else {}

    shown = render(f"{before}[[IF A]]{after}[[ELSE]][[ENDIF]]{before}", variables)

    assert shown == before + (after if is_given else "") + before


@given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="\u2028\u2029")))
def test_a_value_is_put_in_as_it_is(value):
    assert render("x=[[A]]\n", {"A": value}) == f"x={value}\n"


def test_variables_of_a_template_include_those_of_conditions():
    assert variables_of("[[IF A]][[B]][[ELSE]][[C]][[ENDIF]] [[ D ]]") == {"A", "B", "C"}


def test_deep_nesting_costs_no_stack():
    depth = 20_000

    assert render("[[IF A]]" * depth + "x" + "[[ENDIF]]" * depth, {"A": "1"}) == "x"
