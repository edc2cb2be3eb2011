"""The examples in the documentation hold."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import stockade

MODULES = [f"stockade.{module.name}" for module in pkgutil.iter_modules(stockade.__path__)]


@pytest.mark.parametrize("name", ["stockade", *MODULES])
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner()
    tests = [test for test in finder.find(module, name) if test.examples]
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", stockade.__all__)
def test_everything_public_is_documented(name: str) -> None:
    value = getattr(stockade, name)
    if isinstance(value, type) or callable(value):
        assert value.__doc__, name
