"""Grades untrusted solutions of HumanEval so that a solution cannot forge its grade.

Candidate and tests never share a process. ``serve.py`` answers calls to the candidate in one sandbox, ``check.py`` runs
the hidden tests in another, and ``grade.py``, on the host, carries plain data (``plain.py``) between the two.
"""
