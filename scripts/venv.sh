#!/bin/sh
# Makes a private virtual environment with a new enough pip.
#
#     scripts/venv.sh DIRECTORY PYTHON
set -eu

# An environment whose interpreter is gone, or is another one now, is of no use.
if ! "$1/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$1"
    "$2" -m venv "$1"
fi
# 25.1 is the first that reads the dependency groups of pyproject.toml.
"$1/bin/python" -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
