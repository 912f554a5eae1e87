import inspect

import pytest

from gpuday.data.docstrings import docstrings, prose, topics

SOURCE = b'''"""Module text."""
import os

class A:
    """Class text."""

    def method(self):
        r"""Method
        text."""
        "not a docstring"

if os:
    async def f():
        "Plain quotes."

add_docstr(os.path, r"""
C function
text.
""")
x = """a value"""
'''


def test_docstrings_are_found_where_python_has_them() -> None:
    """Modules, classes, methods, functions under a condition, and literals handed to add_docstr; no other strings."""
    assert list(docstrings(SOURCE)) == [
        "Module text.",
        "Class text.",
        "Method\ntext.",
        "Plain quotes.",
        "C function\ntext.",
    ]


@pytest.mark.parametrize("source", [b"def f(:", b"\0", b"\xff\xfe", b"(" * 5000])
def test_a_file_that_does_not_parse_gives_nothing(source: bytes) -> None:
    """Python 2 code and test data among installed packages are no error."""
    assert list(docstrings(source)) == []


def test_topics_are_the_values_of_the_dictionary() -> None:
    """As in pydoc_data/topics.py."""
    assert list(topics(b"topics = {'assert': 'The assert statement\\n', 'x': r'''Other.'''}")) == [
        "The assert statement",
        "Other.",
    ]


def test_prose_is_what_remains_of_a_docstring() -> None:
    """Worked by hand: sentences stay, joined to a line; code, tables, types, rulers and markup go."""
    text = inspect.cleandoc(
        """
        Return the :class:`~a.Matrix` of all *observed* values,
        one row for each ``sample`` that was given.

        Parameters
        ----------
        x : array_like of shape (n, m)
            The samples whose values are to be returned here.
        kind : {"a", "b"}
            Short.

        Args:
            y (int, optional): The number of rows that are kept in memory.
            :param z: the way in which two of these rows are compared

        - a list item that is long enough to be called a sentence

        >>> f(1) and this is code although it has many words in it
        2

        ==== ==== ====
        1    2    3
        ==== ==== ====

        .. note:: x

        ```python
        for every line of this block nothing at all is kept
        ```

        See a_b(c_d=[1,2]), e.f(g) -> {h: i}; j/k/l_m.n o=p q=r.
        """
    )
    assert prose(text) == [
        "Return the a.Matrix of all observed values, one row for each sample that was given.",
        "The samples whose values are to be returned here.",
        "The number of rows that are kept in memory.",
        "the way in which two of these rows are compared",
        "a list item that is long enough to be called a sentence",
    ]
